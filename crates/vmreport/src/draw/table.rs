//! The table at the end of a run, for people.

use super::line::level;
use crate::{Counts, SessionReport, VmReport, VmResult};
use vmplan::Decision;
use vmstream::text::{aligned, size};

/// What became of each VM, of each disk, and how many ended how.
pub fn table(report: &SessionReport) -> String {
    let vms = &report.vms;
    let mut rows = vec![["VM", "STATUS", "TYPE", "POINTS", "SIZE", "TIME", "REMARK"].map(str::to_owned)];
    rows.extend(vms.iter().map(row));
    let text = aligned(&rows) + &disk_table(vms);
    text + &format!("{}\n", Counts::of(vms)) + &not_served(report)
}

/// What somebody asked for and did not get, whatever the log level.
fn not_served(report: &SessionReport) -> String {
    let missed = report.session.not_served();
    match missed.is_empty() {
        true => String::new(),
        false => format!("Configured, but not done by this version: {}\n", missed.join(", ")),
    }
}

/// What became of each disk, between two empty lines. Empty when no VM has got so far.
fn disk_table(vms: &[VmReport]) -> String {
    let mut rows = vec![["VM", "DISK", "RESULT", "SIZE", "REMARK"].map(str::to_owned)];
    for vm in vms {
        let Some(report) = vm.result.report() else { continue };
        rows.extend(report.every_disk.iter().map(|disk| {
            let size = report.bytes_of(&disk.disk).map_or_else(|| "-".to_owned(), size);
            [vm.vm.clone(), disk.disk.clone(), disk.result.word().to_owned(), size, disk.remark()]
        }));
    }
    if rows.len() == 1 { String::new() } else { format!("\n{}\n", aligned(&rows)) }
}

fn row(vm: &VmReport) -> [String; 7] {
    let time = format!("{:.1} s", vm.took.as_secs_f64());
    let status = vm.result.word().to_owned();
    let nothing = |remark: &str| {
        let dash = || "-".to_owned();
        [vm.vm.clone(), status.clone(), dash(), dash(), dash(), time.clone(), remark.to_owned()]
    };
    let report = match &vm.result {
        VmResult::Ok { report } | VmResult::Damaged { report } | VmResult::Skipped { report } => report,
        VmResult::Excluded { why } => return nothing(why),
        VmResult::Failed(failure) => return nothing(&failure.error),
    };
    let points = if report.points == 0 { "-".to_owned() } else { report.points.to_string() };
    let mut remarks = report.damaged.clone();
    if !matches!(report.plan.decision, Decision::Incremental { .. }) {
        remarks.push(report.why.clone());
    }
    if !report.warnings.is_empty() {
        remarks.push(format!("{} warning(s)", report.warnings.len()));
    }
    let (size, level) = (size(report.file_bytes()), level(&report.plan.decision));
    [vm.vm.clone(), status, level, points, size, time, remarks.join("; ")]
}

#[cfg(test)]
mod tests {
    use super::super::literal;
    use super::*;
    use crate::ReplicationState;

    #[test]
    fn each_vm_and_each_disk_has_a_row() {
        let want = "\
VM    STATUS    TYPE           POINTS  SIZE      TIME      REMARK
web   ok        full           1       1.50 MiB  3723.0 s  a new period begins, after 202610; 1 warning(s)
db    DAMAGED   incremental 2  3       0 B       0.5 s     Disk vdb is damaged
off   skipped   skip           4       0 B       1.0 s     shut off and unchanged since the last backup
lab   excluded  -              -       -         0.0 s     policy never (VM_POLICY)
bad   FAILED    -              -       -         2.0 s     no space
late  FAILED    -              -       -         0.0 s     not begun

VM   DISK  RESULT     SIZE      REMARK
web  vda   backed up  1.50 MiB  the whole disk; its image is encrypted, the backup is not
web  sda   skipped    -         empty drive

1 backed up, 1 excluded, 1 skipped, 3 failed
Configured, but not done by this version: local replication, mail
";
        assert_eq!(table(&literal::session()), want);
        let mut none = SessionReport { vms: vec![], ..literal::session() };
        none.session.replication.local = ReplicationState::NotConfigured;
        none.session.mail = ReplicationState::NotConfigured;
        let empty =
            "VM  STATUS  TYPE  POINTS  SIZE  TIME  REMARK\n0 backed up, 0 excluded, 0 skipped, 0 failed\n";
        assert_eq!(table(&none), empty);
    }
}
