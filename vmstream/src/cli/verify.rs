//! `vmstream verify`

use super::exit::Exit;
use super::progress::Bar;
use super::subject::{self, Subject};
use super::{say, text};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use vmstream::sidecar::Checked;
use vmstream::verify::{
    Depth, DiskDigest, DiskVerdict, FileReport, Finding, Level, PointVerdict, Proof, SetReport, StreamReport,
    Verdict, VerifyOptions, Worth, total_bytes, verify_file, verify_set,
};

/// More findings than this do not fit on a screen; JSON has all.
const SHOWN_FINDINGS: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream verify /backup/vm/202611
  vmstream verify /backup --quick
  vmstream verify /backup/vm/202611 --deep --json

Exit codes: 0 all of it is good, 1 damaged, 2 cannot tell or wrong usage")]
pub(super) struct Args {
    /// Folder of a backup set, folder with many of them, or one stream file
    path: PathBuf,
    /// Look at names, sizes and both ends of each file only; no content is read
    #[arg(long, conflicts_with = "deep")]
    quick: bool,
    /// Also decode all content, put every disk together at every point, and print its digest
    #[arg(long)]
    deep: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Threads; each needs up to 64 MiB, with --deep up to 160 MiB
    #[arg(long, default_value_t = super::default_workers())]
    workers: NonZeroUsize,
}

pub(super) fn run(args: &Args) -> Exit {
    let depth = match (args.quick, args.deep) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Deep,
        _ => Depth::Content,
    };
    let options = VerifyOptions { depth, workers: args.workers };
    let (verdict, written) = match subject::open(&args.path) {
        Err(failure) => return failure.report(args.json),
        Ok(Subject::File(file)) => {
            let bar = Bar::new(if args.quick { 0 } else { file.file_len() });
            let report = verify_file(&file, options, &bar);
            bar.clear();
            let written = say(&if args.json { print(&file_json(&report)) } else { file_text(&report) });
            (report.verdict(), written)
        }
        Ok(Subject::Set(set)) => {
            let bar = Bar::new(total_bytes(&set, depth));
            let report = verify_set(&set, options, &bar);
            bar.clear();
            let written = say(&if args.json { print(&as_json(&report)) } else { as_text(&report) });
            (report.verdict(), written)
        }
        Ok(Subject::Sets(sets)) => {
            let bar = Bar::new(sets.sets.iter().map(|set| total_bytes(set, depth)).sum());
            // Each set's streams are let go before the next one's.
            let reports: Vec<_> = sets.sets.iter().map(|set| verify_set(set, options, &bar)).collect();
            bar.clear();
            let verdict = tree_verdict(&reports, &sets.unreadable);
            let written = say(&if args.json {
                print(&tree_json(args, verdict, &reports, &sets.unreadable))
            } else {
                tree_text(args, &reports, &sets.unreadable)
            });
            (verdict, written)
        }
    };
    let found = match verdict {
        Verdict::Good => Exit::Good,
        Verdict::Damaged => Exit::Damaged,
        Verdict::CannotTell => Exit::CannotTell,
    };
    found.unless(written)
}

fn print(value: &Value) -> String {
    format!("{value:#}\n")
}

fn tree_verdict(reports: &[SetReport], unreadable: &[String]) -> Verdict {
    let any = |verdict| reports.iter().any(|report| report.verdict() == verdict);
    if any(Verdict::Damaged) {
        Verdict::Damaged
    } else if any(Verdict::CannotTell) || !unreadable.is_empty() {
        Verdict::CannotTell
    } else {
        Verdict::Good
    }
}

/// One line for a set that is good, everything for the others.
fn tree_text(args: &Args, reports: &[SetReport], unreadable: &[String]) -> String {
    let mut out = String::new();
    for report in reports {
        match report.verdict() {
            Verdict::Good => out.push_str(&short_text(report)),
            Verdict::CannotTell if report.count(Worth::Unproven) > 0 && !is_unreadable(report) => {
                out.push_str(&short_text(report));
            }
            _ => out.push_str(&format!("\n{}\n", as_text(report))),
        }
    }
    for text in unreadable {
        out.push_str(&format!("unreadable: {text}\n"));
    }
    let number = |verdict| reports.iter().filter(|report| report.verdict() == verdict).count();
    let (damaged, unsure) = (number(Verdict::Damaged), number(Verdict::CannotTell) + unreadable.len());
    out.push_str(&format!(
        "\n{}: {}, {} good",
        args.path.display(),
        text::count(reports.len(), "backup set"),
        number(Verdict::Good)
    ));
    if damaged > 0 {
        out.push_str(&format!(", {damaged} DAMAGED"));
    }
    if unsure > 0 {
        out.push_str(&format!(", {unsure} of which nobody can tell"));
    }
    out.push_str(quick_text(args.quick));
    out.push_str(&format!("; {}\n", points_text(reports)));
    out
}

fn is_unreadable(report: &SetReport) -> bool {
    report.findings.iter().any(|finding| finding.level == Level::Unreadable)
}

/// A line, and under it what somebody should know all the same.
fn short_text(report: &SetReport) -> String {
    let mut out = digest_rows(report) + &last_line(report);
    for line in findings_text(&report.dir, &report.findings).lines().filter(|line| !line.is_empty()) {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

/// `8 restore points: 4 proven, 3 unproven, 1 damaged`
fn points_text<'a>(reports: impl IntoIterator<Item = &'a SetReport>) -> String {
    let (mut all, mut quick, mut counts) = (0, true, [0; WORTHS.len()]);
    for report in reports {
        all += report.points.len();
        quick &= report.depth == Depth::Quick;
        WORTHS.iter().zip(&mut counts).for_each(|((worth, _), count)| *count += report.count(*worth));
    }
    let word = |worth, word| if quick && worth == Worth::Proven { "seem whole" } else { word };
    let counted = WORTHS.iter().zip(counts).filter(|(_, count)| *count > 0);
    let counted: Vec<_> =
        counted.map(|((worth, name), count)| format!("{count} {}", word(*worth, name))).collect();
    let colon = if counted.is_empty() { "" } else { ": " };
    format!("{}{colon}{}", text::count(all, "restore point"), counted.join(", "))
}

/// What restore points are worth, in words.
const WORTHS: [(Worth, &str); 4] = [
    (Worth::Proven, "proven"),
    (Worth::Unproven, "unproven"),
    (Worth::Unknown, "unknown"),
    (Worth::Damaged, "damaged"),
];

fn quick_text(quick: bool) -> &'static str {
    if quick { " (a quick look: no content was read)" } else { "" }
}

fn as_text(report: &SetReport) -> String {
    let mut out = findings_text(&report.dir, &report.findings);
    let rows: Vec<Vec<String>> = report.points.iter().map(|point| point_row(report, point)).collect();
    out.push_str(&text::table(&rows));
    let digests = digest_rows(report);
    if !digests.is_empty() {
        let any_checked = report.digests.iter().any(|found| found.checked.is_some());
        let text = if any_checked { PROVEN_TEXT } else { DIGEST_TEXT };
        out.push_str(&format!("\n{digests}\n{text}"));
    }
    out + "\n" + &last_line(report)
}

/// What `--deep` proves, and what not.
const DIGEST_TEXT: &str = "\
Each of these was put together from its streams, to the last byte. The digest is the SHA-256 over one for each MiB of
the disk, that over the SHA-256 of each of its 64 KiB: equal digests are equal disks. What the guest had at that moment
is written nowhere, so that it is the same is not proven; `vmstream compare` holds a disk against an image.
";

/// The same for disks of which sidecars say what they held.
const PROVEN_TEXT: &str = "\
Each of these was put together from its streams, to the last byte, and is what the guest had as far as it is called
proven: its sidecars kept the checksums. The digest is the SHA-256 over one for each MiB of the disk, that over the
SHA-256 of each of its 64 KiB.
";

fn digest_rows(report: &SetReport) -> String {
    let row = |found: &DiskDigest| {
        let mut row = vec![
            found.point.to_string(),
            found.disk.to_string(),
            text::size(found.size),
            found.digest.clone(),
        ];
        row.extend(found.checked.as_ref().map(checked_text));
        row
    };
    text::table(&report.digests.iter().map(row).collect::<Vec<_>>())
}

fn checked_text(checked: &Checked) -> String {
    match (checked.wrong.is_empty(), checked.unproven_bytes) {
        (false, _) => "WRONG, see above".to_owned(),
        (true, 0) => "proven".to_owned(),
        (true, unproven) => format!("proven but for {}", text::size(unproven)),
    }
}

fn last_line(report: &SetReport) -> String {
    let read: u64 = report.streams.iter().map(|stream| stream.data_bytes).sum();
    let domain = report.domain.as_deref().map_or(String::new(), |domain| format!("{domain} in "));
    let quick = report.depth == Depth::Quick;
    format!(
        "{domain}{}: {} ({}, {} of content{})\n",
        report.dir.display(),
        verdict_text(report),
        text::count(report.streams.len(), "stream"),
        text::size(read),
        if quick { ", not read" } else { "" }
    )
}

fn findings_text(dir: &Path, findings: &[Finding]) -> String {
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

fn file_text(report: &FileReport) -> String {
    let verdict = match report.verdict() {
        Verdict::Good => "good",
        Verdict::Damaged => "DAMAGED",
        Verdict::CannotTell => "CANNOT TELL, see above",
    };
    let content = report.stream.as_ref().map_or(String::new(), |stream| {
        let not_read = if report.depth == Depth::Quick { ", not read" } else { "" };
        format!(" ({} of content{not_read})", text::size(stream.data_bytes))
    });
    let dir = report.path.parent().unwrap_or(Path::new(""));
    format!("{}{}: {verdict}{content}\n", findings_text(dir, &report.findings), report.path.display())
}

fn verdict_text(report: &SetReport) -> String {
    let all = report.points.len();
    match report.verdict() {
        Verdict::Good if report.depth == Depth::Quick => {
            format!("nothing wrong at a quick look, {} seem whole", text::count(all, "restore point"))
        }
        Verdict::Good if all == 1 => "good, its restore point can be restored".to_owned(),
        Verdict::Good => format!("good, all {all} restore points can be restored"),
        Verdict::Damaged => format!("DAMAGED, {}", points_text([report])),
        Verdict::CannotTell if report.count(Worth::Unproven) > 0 && !is_unreadable(report) => {
            format!("UNPROVEN, {}", points_text([report]))
        }
        Verdict::CannotTell => format!("CANNOT TELL, {}", points_text([report])),
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
        DiskVerdict::Good if report.depth == Depth::Quick => "seems whole".to_owned(),
        DiskVerdict::Good => "good".to_owned(),
        DiskVerdict::Unproven { .. } => "unproven".to_owned(),
        DiskVerdict::Unknown { files } => format!("UNKNOWN, cannot read {}", names(files)),
        DiskVerdict::Lost { missing: Some(point), .. } => format!("LOST, stream of {point} missing"),
        DiskVerdict::Lost { files, .. } => format!("LOST by {}", names(files)),
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Damaged => "damaged",
        Verdict::CannotTell => "cannot-tell",
    }
}

fn depth_word(depth: Depth) -> &'static str {
    match depth {
        Depth::Quick => "quick",
        Depth::Content => "content",
        Depth::Deep => "deep",
    }
}

fn tree_json(args: &Args, verdict: Verdict, reports: &[SetReport], unreadable: &[String]) -> Value {
    json!({
        "dir": args.path.display().to_string(),
        "verdict": verdict_word(verdict),
        "sets": reports.iter().map(as_json).collect::<Vec<_>>(),
        "unreadable": unreadable,
    })
}

fn file_json(report: &FileReport) -> Value {
    json!({
        "file": report.path.display().to_string(),
        "verdict": verdict_word(report.verdict()),
        "depth": depth_word(report.depth),
        "stream": report.stream.as_ref().map(stream_json),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn as_json(report: &SetReport) -> Value {
    let ids = |wanted: fn(&PointVerdict) -> bool| -> Vec<String> {
        report.points.iter().filter(|point| wanted(point)).map(|point| point.id.to_string()).collect()
    };
    let digest = |found: &DiskDigest| {
        json!({
            "point": found.point.to_string(),
            "disk": found.disk.to_string(),
            "disk_bytes": found.size,
            "sha256_of_mib_of_64k_sha256": found.digest,
            "proven_bytes": found.checked.as_ref().map(|checked| checked.proven_bytes),
            "unproven_bytes": found.checked.as_ref().map(|checked| checked.unproven_bytes),
        })
    };
    json!({
        "dir": report.dir.display().to_string(),
        "domain": report.domain,
        "verdict": verdict_word(report.verdict()),
        "depth": depth_word(report.depth),
        "good_points": ids(PointVerdict::is_good),
        "proven_points": ids(|point| point.worth() == Worth::Proven),
        "unproven_points": ids(|point| point.worth() == Worth::Unproven),
        "lost_points": ids(PointVerdict::is_lost),
        "points": report.points.iter().map(point_json).collect::<Vec<_>>(),
        "streams": report.streams.iter().map(stream_json).collect::<Vec<_>>(),
        "digests": report.digests.iter().map(digest).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn stream_json(stream: &StreamReport) -> Value {
    json!({
        "file": stream.path.display().to_string(),
        "frames": stream.frame_count,
        "data_bytes": stream.data_bytes,
        "proof": stream.proof.map(|proof| match proof {
            Proof::Sidecar => "sidecar",
            Proof::Checksum => "checksum",
            Proof::Lz4 => "lz4",
            Proof::Zstd => "zstd",
            Proof::Empty => "empty",
        }),
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
