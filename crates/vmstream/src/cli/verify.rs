//! `vmstream verify`: proves that backups can be restored, and names what is damaged or lost.

use super::document::Node;
use super::exit::Exit;
use super::output::{Out, warn};
use super::progress::Bar;
use super::subject::{Reach, Subjects};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, PointDisk};
use vmstream::doctor::may_lack_changes;
use vmstream::sidecar::Checked;
use vmstream::text;
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
  vmstream verify /backup/vm /backup/other /mnt/copy/vm.full.data
  vmstream verify /backup/vm/202611 --deep --json

Exit codes: 0 all of it is good, 1 damaged, 2 cannot tell or wrong usage")]
pub(super) struct Args {
    /// Folders of backup sets, folders with many of them, or stream files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reach: Reach,
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
    let subjects = match Subjects::open(&args.paths, &args.reach) {
        Err(failure) => return failure.report(args.json),
        Ok(subjects) => subjects,
    };
    let mut out = if args.json { Out::json() } else { Out::text() };
    let totals = match args.json {
        true => tell_json(subjects, options, &mut out),
        false => tell_text(args, subjects, options, &mut out),
    };
    if totals.doubtful > 0 {
        warn(totals.doctor_text());
    }
    let found = match totals.verdict() {
        Verdict::Good => Exit::Good,
        Verdict::Damaged => Exit::Damaged,
        Verdict::CannotTell => Exit::CannotTell,
    };
    found.unless(out.finish())
}

/// What is known of all that was looked at, when each report is gone.
#[derive(Default)]
struct Totals {
    sets: usize,
    files: usize,
    unreadable: usize,
    good: usize,
    damaged: usize,
    cannot_tell: usize,
    points: PointCounts,
    /// Sets with increments by virtnbdbackup.
    doubtful: usize,
}

impl Totals {
    /// The report, and whether `doctor` has more to say.
    fn set(&mut self, set: &BackupSet, options: VerifyOptions) -> (SetReport, bool) {
        let bar = Bar::new(total_bytes(set, options.depth));
        let report = verify_set(set, options, &bar);
        bar.clear();
        self.sets += 1;
        self.points.add(&report);
        let doubtful = may_lack_changes(set);
        self.doubtful += usize::from(doubtful);
        self.count(report.verdict());
        (report, doubtful)
    }

    fn file(&mut self, file: &PointDisk, options: VerifyOptions) -> FileReport {
        let bar = Bar::new(if options.depth == Depth::Quick { 0 } else { file.file_len() });
        let report = verify_file(file, options, &bar);
        bar.clear();
        self.files += 1;
        self.count(report.verdict());
        report
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Good => self.good += 1,
            Verdict::Damaged => self.damaged += 1,
            Verdict::CannotTell => self.cannot_tell += 1,
        }
    }

    fn verdict(&self) -> Verdict {
        match (self.damaged, self.cannot_tell + self.unreadable) {
            (0, 0) => Verdict::Good,
            (0, _) => Verdict::CannotTell,
            _ => Verdict::Damaged,
        }
    }

    /// What to do about increments by a program with defects.
    fn doctor_text(&self) -> String {
        let which = match (self.doubtful, self.sets) {
            (1, 1) => "the set has".to_owned(),
            (1, _) => "one set has".to_owned(),
            (many, _) => format!("{many} sets have"),
        };
        format!("{which} increments by virtnbdbackup, which may lack changes:\n  vmstream doctor says more")
    }
}

/// A line for a set that is good, everything for the others, each as soon as it is known.
fn tell_text(args: &Args, mut subjects: Subjects, options: VerifyOptions, out: &mut Out) -> Totals {
    let (mut totals, alone) = (Totals::default(), subjects.alone);
    let root = args.paths.first().filter(|_| args.paths.len() == 1);
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
        say(&totals_text(args, &totals));
    }
    totals
}

fn totals_text(args: &Args, totals: &Totals) -> String {
    let name = match &args.paths[..] {
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
    out.push_str(if args.quick { " (a quick look: no content was read)" } else { "" });
    if totals.sets > 0 {
        out.push_str(&format!("; {}", totals.points.text()));
    }
    out + "\n"
}

/// The document, part by part.
fn tell_json(mut subjects: Subjects, options: VerifyOptions, out: &mut Out) -> Totals {
    let mut totals = Totals::default();
    let mut document = Node::document(out, "vmstream/verify/1");
    document.member("depth", &depth_word(options.depth).into());
    let mut sets = document.list("sets");
    subjects.each_set(|set| {
        let (report, doubtful) = totals.set(set, options);
        let mut value = as_json(&report);
        value["may_lack_changes"] = doubtful.into();
        sets.item(&value);
    });
    sets.close();
    let mut files = document.list("files");
    subjects.files.iter().for_each(|file| files.item(&file_json(&totals.file(file, options))));
    files.close();
    totals.unreadable = subjects.unreadable.len();
    document.member("unreadable", &subjects.unreadable.into());
    document.member("verdict", &verdict_word(totals.verdict()).into());
    document.member("totals", &totals_json(&totals));
    document.close();
    totals
}

fn totals_json(totals: &Totals) -> Value {
    let mut value = json!({
        "sets": totals.sets,
        "files": totals.files,
        "good": totals.good,
        "damaged": totals.damaged,
        "cannot_tell": totals.cannot_tell,
        "points": totals.points.all,
    });
    for ((_, name), count) in WORTHS.iter().zip(totals.points.counts) {
        value[format!("{name}_points")] = count.into();
    }
    value
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

/// How many restore points are worth what.
#[derive(Default)]
struct PointCounts {
    all: usize,
    /// In the order of [`WORTHS`].
    counts: [usize; WORTHS.len()],
    read: bool,
}

impl PointCounts {
    fn of(report: &SetReport) -> Self {
        let mut counts = Self::default();
        counts.add(report);
        counts
    }

    fn add(&mut self, report: &SetReport) {
        self.all += report.points.len();
        self.read |= report.depth != Depth::Quick;
        WORTHS.iter().zip(&mut self.counts).for_each(|((worth, _), count)| *count += report.count(*worth));
    }

    /// `8 restore points: 4 proven, 3 unproven, 1 damaged`
    fn text(&self) -> String {
        let word = |worth, word| if !self.read && worth == Worth::Proven { "seem whole" } else { word };
        let counted = WORTHS.iter().zip(self.counts).filter(|(_, count)| *count > 0);
        let counted: Vec<_> =
            counted.map(|((worth, name), count)| format!("{count} {}", word(*worth, name))).collect();
        let colon = if counted.is_empty() { "" } else { ": " };
        format!("{}{colon}{}", text::count(self.all, "restore point"), counted.join(", "))
    }
}

/// What restore points are worth, in words.
const WORTHS: [(Worth, &str); 4] = [
    (Worth::Proven, "proven"),
    (Worth::Unproven, "unproven"),
    (Worth::Unknown, "unknown"),
    (Worth::Damaged, "damaged"),
];

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
is the SHA-256 over one for each MiB of the disk, that over the SHA-256 of each
of its 64 KiB: equal digests are equal disks. What the guest had at that moment
is written nowhere, so that it is the same is not proven; `vmstream compare`
holds a disk against an image.
";

/// The same for disks of which sidecars say what they held.
const PROVEN_TEXT: &str = "\
Each of these was put together from its streams, to the last byte, and is what
the guest had as far as it is called proven: its sidecars kept the checksums.
The digest is the SHA-256 over one for each MiB of the disk, that over the
SHA-256 of each of its 64 KiB.
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
        Verdict::Damaged => format!("DAMAGED, {}", PointCounts::of(report).text()),
        Verdict::CannotTell if report.count(Worth::Unproven) > 0 && !is_unreadable(report) => {
            format!("UNPROVEN, {}", PointCounts::of(report).text())
        }
        Verdict::CannotTell => format!("CANNOT TELL, {}", PointCounts::of(report).text()),
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

/// A line for each disk of each point, where one for all of them would be too long.
fn tall_rows(report: &SetReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for point in &report.points {
        let mut head = point.id.to_string();
        for (disk, verdict) in &point.disks {
            // The others of a point stand below it.
            rows.push(vec![std::mem::take(&mut head), format!("{disk}: {}", disk_text(report, verdict))]);
        }
    }
    rows
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
