//! What is wrong, or what nobody can tell: a line or an entry for each finding.

use serde_json::{Value, json};
use std::path::Path;
use vmstream::verify::{Finding, Level, SetReport};

/// More findings than this do not fit on a screen; JSON has all.
const SHOWN_FINDINGS: usize = 20;

pub(super) fn is_unreadable(report: &SetReport) -> bool {
    report.findings.iter().any(|finding| finding.level == Level::Unreadable)
}

pub(super) fn findings_text(dir: &Path, findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings.iter().take(SHOWN_FINDINGS) {
        out.push_str(&format!("{}: {}\n", finding.level.word(), finding.text(dir)));
    }
    if let Some(more @ 1..) = findings.len().checked_sub(SHOWN_FINDINGS) {
        out.push_str(&format!("… and {more} more; --json lists all\n"));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

pub(super) fn finding_json(finding: &Finding) -> Value {
    json!({
        "level": finding.level.word(),
        "file": finding.path.display().to_string(),
        "frame": finding.frame,
        "file_offset": finding.at,
        "disk_start": finding.disk_range.as_ref().map(|range| range.start),
        "disk_end": finding.disk_range.as_ref().map(|range| range.end),
        "message": finding.message,
    })
}
