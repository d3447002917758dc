//! One line about a backup that ended well.

use std::time::Duration;

use vmplan::Decision;
use vmstream::text::size;

use crate::{BackupReport, Method};

/// `full of 2 disk(s) done in 3.50 s: …`, or why none was needed.
pub fn backup_line(report: &BackupReport, took: Duration) -> String {
    let level = level(&report.plan.decision);
    if report.plan.decision == Decision::Skip {
        return format!("skipped: {}", report.why);
    }
    let how = match report.method {
        Some(Method::Agent) => format!("file systems frozen for {} ms", report.stopped.as_millis()),
        Some(Method::Paused) => format!("paused for {} ms", report.stopped.as_millis()),
        Some(Method::AlreadyPaused) => "was paused already".to_owned(),
        Some(Method::AlreadyFrozen) => "was frozen already".to_owned(),
        Some(Method::Running) => "not held still".to_owned(),
        Some(Method::StartedPaused) => "shut off, started paused for it".to_owned(),
        Some(Method::Offline) | None => "shut off".to_owned(),
    };
    let archived = report.archived_to.as_ref();
    let archived = archived.map_or(String::new(), |to| format!(", previous chain moved to {}", to.display()));
    let stages = report.stages().map_or(String::new(), |stages| format!("; {stages}"));
    format!(
        "{level} of {} disk(s) done in {:.2} s: {} written ({}; {how}){archived}{stages}",
        report.disks.len(),
        took.as_secs_f64(),
        size(report.file_bytes()),
        report.why,
    )
}

/// What was taken, or would be: `full`, `incremental 3`, `copy`.
pub fn level(decision: &Decision) -> String {
    match decision {
        Decision::Skip => "skip".into(),
        Decision::Full { .. } => "full".into(),
        Decision::Incremental { name, .. } => format!("incremental {}", name.number()),
        Decision::Copy { .. } => "copy".into(),
        Decision::Refuse(_) => "refused".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::literal;
    use super::*;

    #[test]
    fn a_backup_is_one_line() {
        let lines: Vec<String> = literal::session()
            .vms
            .iter()
            .filter_map(|vm| Some(backup_line(vm.result.report()?, vm.took)))
            .collect();
        let want = [
            "full of 1 disk(s) done in 3723.00 s: 1.50 MiB written (a new period begins, after 202610; file systems frozen for 12 ms), \
             previous chain moved to /backup/web/202611/old/chain-1; bottleneck: compression (guest reads 41 %, \
             compression 97 %, writing 30 % busy)",
            "incremental 2 of 0 disk(s) done in 0.50 s: 0 B written (the chain continues; paused for 3 ms)",
            "skipped: shut off and unchanged since the last backup",
        ];
        assert_eq!(lines, want);
    }
}
