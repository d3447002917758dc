//! What is known of all that `verify` looked at, counted while each report is told and let go.

use super::points::PointCounts;
use crate::cli::progress::Bar;
use vmstream::chain::{BackupSet, PointDisk};
use vmstream::doctor::may_lack_changes;
use vmstream::verify::{
    Depth, FileReport, SetReport, Verdict, VerifyOptions, total_bytes, verify_file, verify_set,
};

/// What is known of all that was looked at, when each report is gone.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) sets: usize,
    pub(super) files: usize,
    pub(super) unreadable: usize,
    pub(super) good: usize,
    pub(super) damaged: usize,
    pub(super) cannot_tell: usize,
    pub(super) points: PointCounts,
    /// Sets with increments by virtnbdbackup.
    pub(super) doubtful: usize,
}

impl Totals {
    /// The report, and whether `doctor` has more to say.
    pub(super) fn set(&mut self, set: &BackupSet, options: VerifyOptions) -> (SetReport, bool) {
        let bar = Bar::new(total_bytes(set, options.depth));
        let report = verify_set(set, options, &bar);
        bar.clear();
        self.sets += 1;
        self.points.add(&report);
        let doubtful = may_lack_changes(set);
        self.doubtful += usize::from(doubtful);
        self.count(report.verdict());
        (report, doubtful)
    }

    pub(super) fn file(&mut self, file: &PointDisk, options: VerifyOptions) -> FileReport {
        let bar = Bar::new(if options.depth == Depth::Quick { 0 } else { file.file_len() });
        let report = verify_file(file, options, &bar);
        bar.clear();
        self.files += 1;
        self.count(report.verdict());
        report
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Good => self.good += 1,
            Verdict::Damaged => self.damaged += 1,
            Verdict::CannotTell => self.cannot_tell += 1,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match (self.damaged, self.cannot_tell + self.unreadable) {
            (0, 0) => Verdict::Good,
            (0, _) => Verdict::CannotTell,
            _ => Verdict::Damaged,
        }
    }

    /// What to do about increments by a program with defects.
    pub(super) fn doctor_text(&self) -> String {
        let which = match (self.doubtful, self.sets) {
            (1, 1) => "the set has".to_owned(),
            (1, _) => "one set has".to_owned(),
            (many, _) => format!("{many} sets have"),
        };
        format!("{which} increments by virtnbdbackup, which may lack changes:\n  vmstream doctor says more")
    }
}
