//! `vmstream verify`

use super::exit::Exit;
use super::progress::Bar;
use super::{fail, say, text};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use vmstream::chain::BackupSet;
use vmstream::verify::{
    DiskVerdict, Finding, Level, PointVerdict, Proof, SetReport, Verdict, VerifyOptions, total_bytes,
    verify_set,
};

/// More findings than this do not fit on a screen; JSON has all.
const SHOWN_FINDINGS: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Streams read at the same time; each needs up to 64 MiB
    #[arg(long, default_value_t = super::default_workers())]
    workers: NonZeroUsize,
}

pub(super) fn run(args: &Args) -> Exit {
    let set = match BackupSet::open(&args.dir) {
        Ok(set) => set,
        Err(error) => return fail(&error, Exit::CannotTell),
    };
    let bar = Bar::new(total_bytes(&set));
    let report = verify_set(&set, VerifyOptions { workers: args.workers }, &bar);
    bar.clear();
    if args.json {
        say(&format!("{:#}\n", as_json(&report)));
    } else {
        say(&as_text(&report));
    }
    match report.verdict() {
        Verdict::Good => Exit::Good,
        Verdict::Damaged => Exit::Damaged,
        Verdict::CannotTell => Exit::CannotTell,
    }
}

fn as_text(report: &SetReport) -> String {
    let mut out = String::new();
    for finding in report.findings.iter().take(SHOWN_FINDINGS) {
        out.push_str(&format!("{}: {}\n", level(finding.level), finding_text(report, finding)));
    }
    if let Some(more @ 1..) = report.findings.len().checked_sub(SHOWN_FINDINGS) {
        out.push_str(&format!("… and {more} more; --json lists all\n"));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let rows: Vec<Vec<String>> = report.points.iter().map(|point| point_row(report, point)).collect();
    out.push_str(&text::table(&rows));
    let read: u64 = report.streams.iter().map(|stream| stream.data_bytes).sum();
    let domain = report.domain.as_deref().map_or(String::new(), |domain| format!("{domain} in "));
    out.push_str(&format!(
        "\n{domain}{}: {} ({}, {} of content)\n",
        report.dir.display(),
        verdict_text(report),
        text::count(report.streams.len(), "stream"),
        text::size(read)
    ));
    out
}

fn verdict_text(report: &SetReport) -> String {
    let good = report.points.iter().filter(|point| point.is_good()).count();
    let all = report.points.len();
    match report.verdict() {
        Verdict::Good if all == 1 => "good, its restore point can be restored".to_owned(),
        Verdict::Good => format!("good, all {all} restore points can be restored"),
        Verdict::Damaged => {
            format!("DAMAGED, {good} of {} can be restored", text::count(all, "restore point"))
        }
        Verdict::CannotTell => "CANNOT TELL, see above".to_owned(),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Damage => "damage",
        Level::Unreadable => "unreadable",
        Level::Warning => "warning",
        Level::Unproven => "unproven",
    }
}

fn finding_text(report: &SetReport, finding: &Finding) -> String {
    let file = finding.path.strip_prefix(&report.dir).unwrap_or(&finding.path);
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

fn point_row(report: &SetReport, point: &PointVerdict) -> Vec<String> {
    let mut row = vec![point.id.to_string()];
    row.extend(point.disks.iter().map(|(disk, verdict)| format!("{disk}: {}", disk_text(report, verdict))));
    row
}

fn disk_text(report: &SetReport, verdict: &DiskVerdict) -> String {
    let names = |files: &[PathBuf]| match files {
        [] => String::new(),
        [first, more @ ..] => {
            let name = first.strip_prefix(&report.dir).unwrap_or(first).display().to_string();
            if more.is_empty() { name } else { format!("{name} and {} more", more.len()) }
        }
    };
    match verdict {
        DiskVerdict::Good => "good".to_owned(),
        DiskVerdict::Unproven { .. } => "unproven".to_owned(),
        DiskVerdict::Unknown { files } => format!("UNKNOWN, cannot read {}", names(files)),
        DiskVerdict::Lost { missing: Some(point), .. } => format!("LOST, stream of {point} missing"),
        DiskVerdict::Lost { files, .. } => format!("LOST by {}", names(files)),
    }
}

fn as_json(report: &SetReport) -> Value {
    let verdict = match report.verdict() {
        Verdict::Good => "good",
        Verdict::Damaged => "damaged",
        Verdict::CannotTell => "cannot-tell",
    };
    let ids = |wanted: fn(&PointVerdict) -> bool| -> Vec<String> {
        report.points.iter().filter(|point| wanted(point)).map(|point| point.id.to_string()).collect()
    };
    json!({
        "dir": report.dir.display().to_string(),
        "domain": report.domain,
        "verdict": verdict,
        "good_points": ids(PointVerdict::is_good),
        "lost_points": ids(PointVerdict::is_lost),
        "points": report.points.iter().map(point_json).collect::<Vec<_>>(),
        "streams": report.streams.iter().map(|stream| json!({
            "file": stream.path.display().to_string(),
            "frames": stream.frame_count,
            "data_bytes": stream.data_bytes,
            "proof": stream.proof.map(|proof| match proof {
                Proof::Checksum => "checksum",
                Proof::Lz4 => "lz4",
                Proof::Empty => "empty",
            }),
        })).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn point_json(point: &PointVerdict) -> Value {
    let disks: serde_json::Map<String, Value> = point
        .disks
        .iter()
        .map(|(disk, verdict)| {
            let word = match verdict {
                DiskVerdict::Good => "good",
                DiskVerdict::Unproven { .. } => "unproven",
                DiskVerdict::Unknown { .. } => "unknown",
                DiskVerdict::Lost { .. } => "lost",
            };
            (disk.to_string(), Value::from(word))
        })
        .collect();
    json!({"point": point.id.to_string(), "disks": disks})
}

fn finding_json(finding: &Finding) -> Value {
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
