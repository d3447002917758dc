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
        out.push_str(&format!("{}: {}\n", level(finding.level), finding_text(dir, finding)));
    }
    if let Some(more @ 1..) = findings.len().checked_sub(SHOWN_FINDINGS) {
        out.push_str(&format!("… and {more} more; --json lists all\n"));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn finding_text(dir: &Path, finding: &Finding) -> String {
    let file = finding.path.strip_prefix(dir).unwrap_or(&finding.path);
    let mut text = String::new();
    if !file.as_os_str().is_empty() {
        text.push_str(&file.display().to_string());
        if let Some(frame) = finding.frame {
            text.push_str(&format!(", frame {frame}"));
        }
        if let Some(at) = finding.at {
            text.push_str(&format!(", file offset {at}"));
        }
        if let Some(range) = &finding.disk_range {
            text.push_str(&format!(", disk bytes {}..{}", range.start, range.end));
        }
        text.push_str(": ");
    }
    text + &finding.message
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Damage => "damage",
        Level::Unreadable => "unreadable",
        Level::Warning => "warning",
        Level::Unproven => "unproven",
    }
}

pub(super) fn finding_json(finding: &Finding) -> Value {
    json!({
        "level": level(finding.level),
        "file": finding.path.display().to_string(),
        "frame": finding.frame,
        "file_offset": finding.at,
        "disk_start": finding.disk_range.as_ref().map(|range| range.start),
        "disk_end": finding.disk_range.as_ref().map(|range| range.end),
        "message": finding.message,
    })
}
