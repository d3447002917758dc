//! What findings mean for the restore points: each disk needs files, and is worth what the worst of them is.

use super::finding::{Finding, Level};
use super::report::{DiskVerdict, PointVerdict, Worth};
use crate::chain::{BackupSet, Definition, DiskContent, DiskTarget, Point, SetError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The files that points must not rely on.
pub(super) struct Broken {
    damaged: BTreeSet<PathBuf>,
    unreadable: BTreeSet<PathBuf>,
    unproven: BTreeSet<PathBuf>,
}

impl Broken {
    pub(super) fn new(findings: &[Finding]) -> Self {
        let of = |level| {
            let found = findings.iter().filter(|finding| finding.level == level);
            found.map(|finding| finding.path.clone()).collect()
        };
        Self { damaged: of(Level::Damage), unreadable: of(Level::Unreadable), unproven: of(Level::Unproven) }
    }

    pub(super) fn judge(&self, set: &BackupSet, point: &Point) -> PointVerdict {
        let disks: BTreeMap<_, _> = set
            .disks_at(point)
            .into_iter()
            .map(|disk| {
                let verdict = self.judge_disk(set, point, &disk);
                (disk, verdict)
            })
            .collect();
        let definition = point.definition.as_ref().map(|definition| self.judge_definition(set, definition));
        PointVerdict { id: point.id, disks, definition }
    }

    fn judge_definition(&self, set: &BackupSet, definition: &Definition) -> Worth {
        let any = |broken: &BTreeSet<PathBuf>| definition.paths(set).any(|(_, path)| broken.contains(&path));
        match (any(&self.damaged), any(&self.unreadable)) {
            (true, _) => Worth::Damaged,
            (_, true) => Worth::Unknown,
            _ => Worth::Proven,
        }
    }

    fn judge_disk(&self, set: &BackupSet, point: &Point, disk: &DiskTarget) -> DiskVerdict {
        let needed: Vec<&PathBuf> = match set.content(disk, point.id) {
            Err(SetError::Lost { lost, .. }) => {
                return DiskVerdict::Lost { files: Vec::new(), missing: Some(lost) };
            }
            Err(_) => return DiskVerdict::Lost { files: Vec::new(), missing: Some(point.id) },
            Ok(DiskContent::Raw { image, .. }) => vec![&image.path],
            Ok(DiskContent::Streams(entries)) => entries.iter().map(|entry| &entry.path).collect(),
        };
        let among = |broken: &BTreeSet<PathBuf>| -> Vec<PathBuf> {
            needed.iter().filter(|path| broken.contains(**path)).map(|path| (*path).clone()).collect()
        };
        let damaged = among(&self.damaged);
        if !damaged.is_empty() {
            return DiskVerdict::Lost { files: damaged, missing: None };
        }
        let unreadable = among(&self.unreadable);
        if !unreadable.is_empty() {
            return DiskVerdict::Unknown { files: unreadable };
        }
        let unproven = among(&self.unproven);
        if unproven.is_empty() { DiskVerdict::Good } else { DiskVerdict::Unproven { files: unproven } }
    }
}
