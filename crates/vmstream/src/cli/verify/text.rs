//! `verify` for people: a line for a set that is good, everything for the others.

use super::findings::{findings_text, is_unreadable};
use super::points::{PointCounts, point_row, tall_rows};
use super::totals::Totals;
use crate::cli::output::Out;
use crate::cli::subject::Subjects;
use std::path::{Path, PathBuf};
use vmstream::sidecar::Checked;
use vmstream::text;
use vmstream::verify::{Depth, DiskDigest, FileReport, SetReport, Verdict, VerifyOptions, Worth};

/// A line for a set that is good, everything for the others, each as soon as it is known.
pub(super) fn tell(
    paths: &[PathBuf],
    mut subjects: Subjects,
    options: VerifyOptions,
    out: &mut Out,
) -> Totals {
    let (mut totals, alone) = (Totals::default(), subjects.alone);
    let root = paths.first().filter(|_| paths.len() == 1);
    let mut say = |text: &str| {
        out.say(&text::wrapped(text));
        out.flush();
    };
    subjects.each_set(|set| {
        let (report, _) = totals.set(set, options);
        match report.verdict() {
            _ if alone => say(&as_text(&report)),
            // What was named is shown whole, what is below it is a line each.
            _ if root.is_some_and(|root| set.dir == *root) => say(&format!("{}\n", as_text(&report))),
            Verdict::Good => say(&short_text(&report)),
            Verdict::CannotTell if report.count(Worth::Unproven) > 0 && !is_unreadable(&report) => {
                say(&short_text(&report));
            }
            _ => say(&format!("\n{}\n", as_text(&report))),
        }
    });
    subjects.files.iter().for_each(|file| say(&file_text(&totals.file(file, options))));
    subjects.unreadable.iter().for_each(|text| say(&format!("unreadable: {text}\n")));
    totals.unreadable = subjects.unreadable.len();
    if !alone {
        say(&totals_text(paths, options.depth, &totals));
    }
    totals
}

fn totals_text(paths: &[PathBuf], depth: Depth, totals: &Totals) -> String {
    let name = match paths {
        [path] => path.display().to_string(),
        _ => "All".to_owned(),
    };
    let counted = [(totals.sets, "backup set"), (totals.files, "file")];
    let counted =
        counted.iter().filter(|(number, what)| *number > 0 || (totals.files == 0 && *what != "file"));
    let counted: Vec<_> = counted.map(|(number, what)| text::count(*number, what)).collect();
    let mut out = format!("\n{name}: {}, {} good", counted.join(", "), totals.good);
    if totals.damaged > 0 {
        out.push_str(&format!(", {} DAMAGED", totals.damaged));
    }
    let unsure = totals.cannot_tell + totals.unreadable;
    if unsure > 0 {
        out.push_str(&format!(", {unsure} of which nobody can tell"));
    }
    out.push_str(if depth == Depth::Quick { " (a quick look: no content was read)" } else { "" });
    if totals.sets > 0 {
        out.push_str(&format!("; {}", totals.points.text()));
    }
    out + "\n"
}

/// A line, and under it what somebody should know all the same.
fn short_text(report: &SetReport) -> String {
    let mut out = digest_rows(report) + &last_line(report);
    for line in findings_text(&report.dir, &report.findings).lines().filter(|line| !line.is_empty()) {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

fn as_text(report: &SetReport) -> String {
    let mut out = findings_text(&report.dir, &report.findings);
    let rows: Vec<Vec<String>> = report.points.iter().map(|point| point_row(report, point)).collect();
    let wide = text::table(&rows);
    out.push_str(&if text::fits(&wide) { wide } else { text::table(&tall_rows(report)) });
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
Each of these was put together from its streams, to the last byte. The digest
is the BLAKE3 over one for each MiB of the disk, that over the BLAKE3 of each of
its 64 KiB: equal digests are equal disks. What the guest had at that moment is
written nowhere, so that it is the same is not proven; `vmstream compare` holds
a disk against an image.
";

/// The same for disks of which sidecars say what they held.
const PROVEN_TEXT: &str = "\
Each of these was put together from its streams, to the last byte, and is what
the guest had as far as it is called proven: its sidecars kept the checksums.
The digest is the BLAKE3 over one for each MiB of the disk, that over the
BLAKE3 of each of its 64 KiB.
";

/// Two lines for each: a digest is as long as the rest.
fn digest_rows(report: &SetReport) -> String {
    let row = |found: &DiskDigest| {
        let mut row = vec![found.point.to_string(), found.disk.to_string(), text::size(found.size)];
        row.extend(found.checked.as_ref().map(checked_text));
        row
    };
    let table = text::table(&report.digests.iter().map(row).collect::<Vec<_>>());
    table
        .lines()
        .zip(&report.digests)
        .map(|(line, found)| format!("{line}\n    {}\n", found.digest))
        .collect()
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

fn verdict_text(report: &SetReport) -> String {
    let all = report.points.len();
    let definition_only = all > 0 && report.points.iter().all(|point| point.definition.is_some());
    match report.verdict() {
        Verdict::Good if definition_only && report.depth == Depth::Quick => {
            "definition only, nothing wrong at a quick look".to_owned()
        }
        Verdict::Good if definition_only => "good, definition only: no disk was to be backed up".to_owned(),
        Verdict::Good if report.depth == Depth::Quick => {
            format!("nothing wrong at a quick look, {} seem whole", text::count(all, "restore point"))
        }
        Verdict::Good if all == 1 => "good, its restore point can be restored".to_owned(),
        Verdict::Good => format!("good, all {all} restore points can be restored"),
        Verdict::Damaged => format!("DAMAGED, {}", PointCounts::of(report).text()),
        Verdict::CannotTell if report.count(Worth::Unproven) > 0 && !is_unreadable(report) => {
            format!("UNPROVEN, {}", PointCounts::of(report).text())
        }
        Verdict::CannotTell => format!("CANNOT TELL, {}", PointCounts::of(report).text()),
    }
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
