//! The frame at the end of a session in the log, and the lines around each VM, as readers of the Bash program's log
//! know them.

use std::time::Duration;

use jiff::Zoned;

use super::size::iec;
use crate::{Counts, Ending, ReplicationState, SessionReport, VmReport};
use vmplan::{Decision, RotationPolicy};

/// Width of the frame of a session, with its corners.
const WIDTH: usize = 106;

/// Width of the frames around a VM.
const VM_WIDTH: usize = 80;

/// Where the values of a VM begin, behind their labels.
const LABELS: usize = 21;

/// How moments are written: local time.
const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// Widths of the columns but the last.
const COLUMNS: [usize; 7] = [20, 8, 5, 9, 8, 6, 11];

/// The line that scripts look for in the log.
pub fn final_results(counts: Counts) -> String {
    format!("FINAL RESULTS: {counts}")
}

/// The frame for a session of backups, line by line.
pub fn session_box(report: &SessionReport) -> Vec<String> {
    let vms = &report.vms;
    let counts = Counts::of(vms);
    use RotationPolicy::{Accumulate, Daily, Monthly, Weekly};
    let by_policy = [Daily, Weekly, Monthly, Accumulate].map(|policy| {
        let of =
            vms.iter().filter(|vm| vm.result.ending() == Ending::BackedUp && vm.policy == policy).count();
        format!("{policy}: {of}")
    });
    let between = || edge('╠', '╣');
    let head = ["VM NAME", "STATUS", "TYPE", "POLICY", "DURATION", "CHKPTS", "SIZE", "ERROR"];
    let mut lines = vec![
        edge('╔', '╗'),
        title("VM BACKUP SESSION SUMMARY"),
        between(),
        row(&format!("Total VMs: {}", vms.len())),
        row(""),
        row(&format!("✓ Backed Up: {}  ({})", counts.backed_up, by_policy.join(", "))),
        row(&format!("○ Excluded:  {}  (policy=never or pattern match)", counts.excluded)),
        row(&format!("◇ Skipped:   {}  (offline/unchanged)", counts.skipped)),
        row(&format!("✗ Failed:    {}", counts.failed)),
        between(),
        columns(&head.map(str::to_owned)),
        between(),
    ];
    lines.extend(vms.iter().map(|vm| columns(&cells(vm))));
    lines.extend([
        between(),
        replication("LOCAL", report.session.replication.local),
        row(""),
        replication("CLOUD", report.session.replication.cloud),
        edge('╚', '╝'),
    ]);
    lines
}

/// What became of a replication.
fn replication(name: &str, state: ReplicationState) -> String {
    let state = match state {
        ReplicationState::NotServed => "Configured, but not done by this version",
        ReplicationState::NotConfigured => "Not configured",
    };
    row(&format!("{name} REPLICATION: {state}"))
}

/// The frame for a session that only replicates: those of the replications that it was for.
pub fn replication_only(
    mode: &str,
    local: Option<ReplicationState>,
    cloud: Option<ReplicationState>,
) -> Vec<String> {
    let mode = row(&format!("Mode: {mode}  (no backups, retention, or FSTRIM)"));
    let between = || edge('╠', '╣');
    let mut lines =
        vec![edge('╔', '╗'), title("REPLICATION-ONLY SESSION SUMMARY"), between(), mode, between()];
    lines.extend(local.into_iter().flat_map(|state| [replication("LOCAL", state), row("")]));
    lines.extend(cloud.map(|state| replication("CLOUD", state)));
    lines.push(edge('╚', '╝'));
    lines
}

/// The lines before the backup of a VM.
pub fn vm_start(vm: &str, now: &Zoned) -> Vec<String> {
    let now = now.strftime(TIME);
    vec![
        vm_edge('╔', '╗'),
        row(&format!("BACKUP START: {vm}")),
        row(&format!("Time: {now}")),
        vm_edge('╚', '╝'),
    ]
}

/// The lines after it.
pub fn vm_end(vm: &VmReport, ended: &Zoned) -> Vec<String> {
    let took = i64::try_from(vm.took.as_millis()).unwrap_or(i64::MAX);
    let began = ended.checked_sub(jiff::SignedDuration::from_millis(took)).unwrap_or_else(|_| ended.clone());
    let [_, status, kind, policy, duration, points, size, error] = cells(vm);
    let labelled = |label: &str, value: &str| row(&format!("{:LABELS$}{value}", format!("{label}:")));
    let mut lines = vec![vm_edge('╔', '╗'), row(&format!("BACKUP END: {}", vm.vm)), vm_edge('╠', '╣')];
    for (label, value) in [
        ("Status", status),
        ("Backup Type", kind),
        ("Policy", policy),
        ("Duration", duration),
        ("Restore Points", points),
        ("Backup Size", size),
    ] {
        lines.push(labelled(label, &value));
    }
    if let Some(report) = vm.result.report() {
        lines.extend(report.every_disk.iter().map(|disk| row(&format!("Disk {disk}"))));
    }
    if !error.is_empty() {
        lines.push(labelled("Error", &error));
    }
    for (label, at) in [("Start", &began), ("End", ended)] {
        lines.push(labelled(label, &at.strftime(TIME).to_string()));
    }
    lines.push(vm_edge('╚', '╝'));
    lines
}

fn status(vm: &VmReport) -> &'static str {
    match vm.result.ending() {
        Ending::BackedUp => "SUCCESS",
        Ending::Skipped => "SKIPPED",
        Ending::Excluded => "EXCLUDED",
        Ending::Failed => "FAILED",
    }
}

fn cells(vm: &VmReport) -> [String; 8] {
    let report = vm.result.report();
    let known = report.or_else(|| vm.result.failure()?.report.as_deref());
    // The words of the database: a copy is a full, an increment "auto".
    let kind = known.map_or("n/a", |known| match known.plan.decision {
        Decision::Full { .. } | Decision::Copy { .. } => "full",
        Decision::Incremental { .. } => "auto",
        Decision::Skip => "none",
        Decision::Refuse(_) => "n/a",
    });
    let size = report.filter(|report| !report.disks.is_empty());
    [
        vm.vm.clone(),
        status(vm).to_owned(),
        kind.to_owned(),
        vm.policy.to_string(),
        hours(vm.took),
        report.map_or(0, |report| report.points).to_string(),
        size.map_or_else(|| "N/A".to_owned(), |report| iec(report.file_bytes())),
        vm.result.failure().map_or_else(String::new, |failure| failure.error.clone()),
    ]
}

fn columns(cells: &[String; 8]) -> String {
    let padded = cells.iter().zip(COLUMNS).map(|(cell, width)| format!("{cell:width$}"));
    row(&padded.chain(cells.last().cloned()).collect::<Vec<_>>().join(" │ "))
}

fn row(text: &str) -> String {
    format!("║  {text}").trim_end().to_owned()
}

/// The one line that has both sides.
fn title(text: &str) -> String {
    format!("║{text:^0$}║", WIDTH - 2)
}

fn edge(left: char, right: char) -> String {
    format!("{left}{}{right}", "═".repeat(WIDTH - 2))
}

fn vm_edge(left: char, right: char) -> String {
    format!("{left}{}{right}", "═".repeat(VM_WIDTH - 2))
}

fn hours(took: Duration) -> String {
    let seconds = took.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::super::literal;
    use super::*;

    #[test]
    fn the_frame_is_as_wide_as_ever_and_names_every_part() {
        let none = Some(ReplicationState::NotConfigured);
        let lines = replication_only("both", none, none);
        let want = "top
            title REPLICATION-ONLY SESSION SUMMARY
            middle
            ║  Mode: both  (no backups, retention, or FSTRIM)
            middle
            ║  LOCAL REPLICATION: Not configured
            ║
            ║  CLOUD REPLICATION: Not configured
            bottom";
        assert_eq!(lines, framed(want, WIDTH));
        assert!(lines[1].starts_with("║     ") && lines[1].ends_with("     ║"), "{}", lines[1]);
        assert_eq!(lines[1].chars().count(), 106);
        assert_eq!(lines[0].chars().count(), 106);
    }

    /// Lines, with names in the place of the edges.
    fn framed(text: &str, width: usize) -> Vec<String> {
        let edge = |left, right| format!("{left}{}{right}", "═".repeat(width - 2));
        let lines = text.lines().map(|line| match line.trim() {
            "top" => edge('╔', '╗'),
            "middle" => edge('╠', '╣'),
            "bottom" => edge('╚', '╝'),
            line => line.strip_prefix("title ").map_or_else(|| line.to_owned(), title),
        });
        lines.collect()
    }

    #[test]
    fn the_lines_of_a_session_are_those_that_people_know() {
        let session = literal::session();
        let summary = "top
            title VM BACKUP SESSION SUMMARY
            middle
            ║  Total VMs: 6
            ║
            ║  ✓ Backed Up: 1  (daily: 0, weekly: 0, monthly: 1, accumulate: 0)
            ║  ○ Excluded:  1  (policy=never or pattern match)
            ║  ◇ Skipped:   1  (offline/unchanged)
            ║  ✗ Failed:    3
            middle
            ║  VM NAME              │ STATUS   │ TYPE  │ POLICY    │ DURATION │ CHKPTS │ SIZE        │ ERROR
            middle
            ║  web                  │ SUCCESS  │ full  │ monthly   │ 01:02:03 │ 1      │ 1.5MiB      │
            ║  db                   │ FAILED   │ auto  │ daily     │ 00:00:00 │ 3      │ N/A         │
            ║  off                  │ SKIPPED  │ none  │ monthly   │ 00:00:01 │ 4      │ N/A         │
            ║  lab                  │ EXCLUDED │ n/a   │ never     │ 00:00:00 │ 0      │ N/A         │
            ║  bad                  │ FAILED   │ full  │ weekly    │ 00:00:02 │ 0      │ N/A         │ no space
            ║  late                 │ FAILED   │ n/a   │ monthly   │ 00:00:00 │ 0      │ N/A         │ not begun
            middle
            ║  LOCAL REPLICATION: Configured, but not done by this version
            ║
            ║  CLOUD REPLICATION: Not configured
            bottom";
        assert_eq!(session_box(&session), framed(summary, WIDTH));
        let at: Zoned = "2026-11-22T01:00:07[UTC]".parse().unwrap();
        let start = "top
            ║  BACKUP START: web
            ║  Time: 2026-11-22 01:00:07
            bottom";
        assert_eq!(vm_start("web", &at), framed(start, VM_WIDTH));
        let end = "top
            ║  BACKUP END: web
            middle
            ║  Status:              SUCCESS
            ║  Backup Type:         full
            ║  Policy:              monthly
            ║  Duration:            01:02:03
            ║  Restore Points:      1
            ║  Backup Size:         1.5MiB
            ║  Disk vda: backed up (the whole disk; its image is encrypted, the backup is not)
            ║  Disk sda: skipped: empty drive
            ║  Start:               2026-11-21 23:58:04
            ║  End:                 2026-11-22 01:00:07
            bottom";
        assert_eq!(vm_end(&session.vms[0], &at), framed(end, VM_WIDTH));
        let end = "top
            ║  BACKUP END: bad
            middle
            ║  Status:              FAILED
            ║  Backup Type:         full
            ║  Policy:              weekly
            ║  Duration:            00:00:02
            ║  Restore Points:      0
            ║  Backup Size:         N/A
            ║  Error:               no space
            ║  Start:               2026-11-22 01:00:05
            ║  End:                 2026-11-22 01:00:07
            bottom";
        assert_eq!(vm_end(&session.vms[4], &at), framed(end, VM_WIDTH));
        let results = final_results(Counts { backed_up: 4, excluded: 3, skipped: 2, failed: 1 });
        assert_eq!(results, "FINAL RESULTS: 4 backed up, 3 excluded, 2 skipped, 1 failed");
    }
}
