//! The frame at the end of a session in the log, and the lines around each VM, as readers of the Bash program's log
//! know them.

use std::time::Duration;

use jiff::Zoned;

use super::arguments::Scope;
use super::summary;
use crate::session::{VmOutcome, VmResult};
use vmconfig::{Feature, Unserved};
use vmplan::Decision;

/// Width of the frame, with its corners.
const WIDTH: usize = 106;

/// Widths of the columns but the last.
const COLUMNS: [usize; 7] = [20, 8, 5, 9, 8, 6, 11];

/// How many VMs ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) backed_up: usize,
    pub(super) excluded: usize,
    pub(super) skipped: usize,
    pub(super) failed: usize,
}

impl Counts {
    pub(super) fn of(outcomes: &[VmOutcome]) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            *match status(outcome) {
                "SUCCESS" => &mut counts.backed_up,
                "EXCLUDED" => &mut counts.excluded,
                "SKIPPED" => &mut counts.skipped,
                _ => &mut counts.failed,
            } += 1;
        }
        counts
    }

    /// The line that scripts look for in the log.
    pub(super) fn final_results(self) -> String {
        let Self { backed_up, excluded, skipped, failed } = self;
        format!(
            "FINAL RESULTS: {backed_up} backed up, {excluded} excluded, {skipped} skipped, {failed} failed"
        )
    }
}

/// The frame for a session of backups, line by line.
pub(super) fn backups(outcomes: &[VmOutcome], unserved: &[Unserved]) -> Vec<String> {
    let counts = Counts::of(outcomes);
    let by_policy = ["daily", "weekly", "monthly", "accumulate"].map(|policy| {
        let of = outcomes.iter().filter(|o| status(o) == "SUCCESS" && o.policy.as_str() == policy).count();
        format!("{policy}: {of}")
    });
    let mut lines = vec![edge('╔', '╗'), row("VM BACKUP SESSION SUMMARY"), edge('╠', '╣')];
    lines.push(row(&format!("Total VMs: {}", outcomes.len())));
    lines.push(row(&format!("✓ Backed Up: {}  ({})", counts.backed_up, by_policy.join(", "))));
    lines.push(row(&format!("○ Excluded: {}", counts.excluded)));
    lines.push(row(&format!("◇ Skipped: {}", counts.skipped)));
    lines.push(row(&format!("✗ Failed: {}", counts.failed)));
    lines.push(edge('╠', '╣'));
    let head = ["VM NAME", "STATUS", "TYPE", "POLICY", "DURATION", "CHKPTS", "SIZE", "ERROR"];
    lines.push(columns(&head.map(str::to_owned)));
    lines.extend(outcomes.iter().map(|outcome| columns(&cells(outcome))));
    lines.push(edge('╠', '╣'));
    lines.push(replication(Feature::LocalReplication, unserved));
    lines.push(replication(Feature::CloudReplication, unserved));
    lines.push(edge('╚', '╝'));
    lines
}

/// What became of a replication.
fn replication(feature: Feature, unserved: &[Unserved]) -> String {
    let name = if feature == Feature::LocalReplication { "LOCAL" } else { "CLOUD" };
    let is_on = unserved.iter().any(|of| of.feature == feature);
    row(&format!(
        "{name} REPLICATION: {}",
        if is_on { "Configured, but not done by this version" } else { "Not configured" }
    ))
}

/// The frame for a session that only replicates.
pub(super) fn replication_only(scope: Scope, unserved: &[Unserved]) -> Vec<String> {
    let mut lines = vec![edge('╔', '╗'), row("REPLICATION-ONLY SESSION SUMMARY"), edge('╠', '╣')];
    lines.push(row(&format!("Mode: {}", scope.as_str())));
    if scope != Scope::Cloud {
        lines.push(replication(Feature::LocalReplication, unserved));
    }
    if scope != Scope::Local {
        lines.push(replication(Feature::CloudReplication, unserved));
    }
    lines.push(edge('╚', '╝'));
    lines
}

/// The lines before the backup of a VM.
pub(super) fn vm_start(vm: &str) -> Vec<String> {
    let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z");
    vec![edge('╔', '╗'), row(&format!("START: {vm}")), row(&format!("Time: {now}")), edge('╚', '╝')]
}

/// The lines after it.
pub(super) fn vm_end(outcome: &VmOutcome) -> Vec<String> {
    let ended = Zoned::now();
    let took = i64::try_from(outcome.took.as_millis()).unwrap_or(i64::MAX);
    let began = ended.checked_sub(jiff::SignedDuration::from_millis(took)).unwrap_or_else(|_| ended.clone());
    let [_, status, kind, policy, duration, points, size, error] = cells(outcome);
    let mut lines = vec![edge('╔', '╗'), row(&format!("END: {}", outcome.domain)), edge('╠', '╣')];
    for (label, value) in [
        ("Status", status),
        ("Backup Type", kind),
        ("Policy", policy),
        ("Duration", duration),
        ("Restore Points", points),
        ("Backup Size", size),
    ] {
        lines.push(row(&format!("{label}: {value}")));
    }
    if let VmResult::Done(report) = &outcome.result {
        lines.extend(report.every_disk.iter().map(|disk| row(&format!("Disk {disk}"))));
    }
    if !error.is_empty() {
        lines.push(row(&format!("Error: {error}")));
    }
    for (label, at) in [("Start", began), ("End", ended)] {
        lines.push(row(&format!("{label}: {}", at.strftime("%Y-%m-%d %H:%M:%S %Z"))));
    }
    lines.push(edge('╚', '╝'));
    lines
}

fn status(outcome: &VmOutcome) -> &'static str {
    match summary::status(outcome) {
        "ok" => "SUCCESS",
        "skipped" => "SKIPPED",
        "excluded" => "EXCLUDED",
        _ => "FAILED",
    }
}

fn cells(outcome: &VmOutcome) -> [String; 8] {
    let report = match &outcome.result {
        VmResult::Done(report) => Some(report),
        _ => None,
    };
    let kind = report.map_or("n/a", |report| match report.plan.decision {
        Decision::Full { .. } => "full",
        Decision::Incremental { .. } => "inc",
        Decision::Copy { .. } => "copy",
        _ => "none",
    });
    let size = report.filter(|report| !report.disks.is_empty());
    [
        outcome.domain.clone(),
        status(outcome).to_owned(),
        kind.to_owned(),
        outcome.policy.to_string(),
        hours(outcome.took),
        report.map_or(0, |report| report.points).to_string(),
        size.map_or_else(|| "N/A".to_owned(), |report| iec(report.file_bytes())),
        summary::error(outcome).unwrap_or_default(),
    ]
}

fn columns(cells: &[String; 8]) -> String {
    let padded = cells.iter().zip(COLUMNS).map(|(cell, width)| format!("{cell:width$}"));
    row(&padded.chain(cells.last().cloned()).collect::<Vec<_>>().join(" │ "))
}

fn row(text: &str) -> String {
    format!("║ {text}").trim_end().to_owned()
}

fn edge(left: char, right: char) -> String {
    format!("{left}{}{right}", "═".repeat(WIDTH - 2))
}

fn hours(took: Duration) -> String {
    let seconds = took.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `5B`, `1.2GiB`: below ten with one decimal, and never less than it is.
///
/// Source: numfmt(1) with `--to=iec-i --suffix=B`, which rounds away from zero.
fn iec(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut unit, mut size) = (1_usize, 1024_u128);
    loop {
        let tenths = (u128::from(bytes) * 10).div_ceil(size);
        let whole = u128::from(bytes).div_ceil(size);
        if tenths < 100 {
            return format!("{}.{}{}B", tenths / 10, tenths % 10, UNITS[unit]);
        }
        if whole < 1024 || unit + 1 == UNITS.len() {
            return format!("{whole}{}B", UNITS[unit]);
        }
        (unit, size) = (unit + 1, size << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmconfig::value::RotationPolicy;

    /// What numfmt(1) of coreutils says.
    fn numfmt(bytes: u64) -> String {
        let number = bytes.to_string();
        let arguments = ["--to=iec-i", "--suffix=B", number.as_str()];
        let output =
            std::process::Command::new("numfmt").args(arguments).env("LC_ALL", "C").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn sizes_are_those_of_numfmt() {
        let mut sizes =
            vec![0, 5, 1023, 1024, 1025, 10239, 10240, 10241, 102_400, 1_048_575, 1_048_576, 1_048_577];
        sizes.extend([(1 << 30) - 1, 1 << 30, 5 << 30, 1_288_490_188, 1 << 40, 123_456_789_012_345]);
        sizes.extend((1..200).map(|n: u64| n * n * n * n * 7_919));
        for bytes in sizes {
            assert_eq!(iec(bytes), numfmt(bytes), "{bytes}");
        }
    }

    #[test]
    fn the_frame_is_as_wide_as_ever_and_names_every_part() {
        let lines = replication_only(Scope::Both, &[]);
        let want = [
            edge('╔', '╗').as_str(),
            "║ REPLICATION-ONLY SESSION SUMMARY",
            edge('╠', '╣').as_str(),
            "║ Mode: both",
            "║ LOCAL REPLICATION: Not configured",
            "║ CLOUD REPLICATION: Not configured",
            edge('╚', '╝').as_str(),
        ]
        .map(str::to_owned);
        assert_eq!(lines, want);
        assert_eq!(lines[0].chars().count(), 106);
    }

    /// The lines, with `TIME` for what has the form of a time.
    fn timeless(lines: Vec<String>) -> Vec<String> {
        let is_time = |text: &str| {
            let parts: Vec<usize> = text.split(' ').map(str::len).collect();
            matches!(parts.as_slice(), [10, 8, zone] if *zone > 0)
        };
        let plain = |line: String| match line.split_once(": ") {
            Some((label, value)) if is_time(value) => format!("{label}: TIME"),
            _ => line,
        };
        lines.into_iter().map(plain).collect()
    }

    #[test]
    fn the_lines_of_a_session_are_those_that_people_know() {
        let outcome = VmOutcome {
            domain: "web".into(),
            policy: RotationPolicy::Monthly,
            destination: None,
            tries: 0,
            retention: None,
            result: VmResult::NotBegun,
            took: Duration::from_secs(3723),
        };
        let (top, middle, bottom) = (edge('╔', '╗'), edge('╠', '╣'), edge('╚', '╝'));
        let framed = |text: &str| {
            let lines = text.lines().map(|line| match line.trim() {
                "top" => top.clone(),
                "middle" => middle.clone(),
                "bottom" => bottom.clone(),
                line => line.to_owned(),
            });
            lines.collect::<Vec<_>>()
        };
        let summary = "top
            ║ VM BACKUP SESSION SUMMARY
            middle
            ║ Total VMs: 1
            ║ ✓ Backed Up: 0  (daily: 0, weekly: 0, monthly: 0, accumulate: 0)
            ║ ○ Excluded: 0
            ║ ◇ Skipped: 0
            ║ ✗ Failed: 1
            middle
            ║ VM NAME              │ STATUS   │ TYPE  │ POLICY    │ DURATION │ CHKPTS │ SIZE        │ ERROR
            ║ web                  │ FAILED   │ n/a   │ monthly   │ 01:02:03 │ 0      │ N/A         │ not begun
            middle
            ║ LOCAL REPLICATION: Configured, but not done by this version
            ║ CLOUD REPLICATION: Not configured
            bottom";
        let local = Feature::LocalReplication;
        let unserved = Unserved { feature: local, said: String::new(), fix: String::new() };
        assert_eq!(backups(std::slice::from_ref(&outcome), &[unserved]), framed(summary));
        let start = "top
            ║ START: web
            ║ Time: TIME
            bottom";
        assert_eq!(timeless(vm_start("web")), framed(start));
        let end = "top
            ║ END: web
            middle
            ║ Status: FAILED
            ║ Backup Type: n/a
            ║ Policy: monthly
            ║ Duration: 01:02:03
            ║ Restore Points: 0
            ║ Backup Size: N/A
            ║ Error: not begun
            ║ Start: TIME
            ║ End: TIME
            bottom";
        assert_eq!(timeless(vm_end(&outcome)), framed(end));
        let results = Counts { backed_up: 4, excluded: 3, skipped: 2, failed: 1 }.final_results();
        assert_eq!(results, "FINAL RESULTS: 4 backed up, 3 excluded, 2 skipped, 1 failed");
    }
}
