//! `vmstream info`. It ends with 1 where it shows damage, with 2 where something could not be read.

use super::exit::Exit;
use super::subject::{self, Sets, Subject};
use super::until::taken;
use super::{say, text};
use serde_json::{Value, json};
use std::path::PathBuf;
use vmstream::chain::{BackupSet, DiskTarget, Point, PointDisk, Severity};
use vmstream::stream::{Compression, StreamError, StreamMeta};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream info /backup
  vmstream info /backup/vm/202611
  vmstream info /backup/vm/202611/vda.full.data --json

Exit codes: 0 nothing wrong at a glance, 1 damaged, 2 cannot tell or wrong
            usage. It reads no content: that is what verify is for")]
pub(super) struct Args {
    /// Folder of a backup set, folder with many of them, or one stream file
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let (value, text, damaged, complete) = match subject::open(&args.path) {
        Err(failure) => return failure.report(args.json),
        Ok(Subject::File(file)) => {
            let damaged = matches!(file.as_ref(), PointDisk::Stream(entry) if entry.meta.is_err());
            (disk_json(&file), file_text(&file), damaged, true)
        }
        Ok(Subject::Set(set)) => (as_json(&set), as_text(&set), is_damaged(&set), is_readable(&set)),
        Ok(Subject::Sets(Sets { root_is_set, sets, unreadable })) => {
            let value = json!({
                "dir": args.path.display().to_string(),
                "sets": sets.iter().map(as_json).collect::<Vec<_>>(),
                "unreadable": unreadable,
            });
            let damaged = sets.iter().any(is_damaged);
            let complete = unreadable.is_empty() && sets.iter().all(is_readable);
            let own = sets.first().filter(|_| root_is_set).map_or(String::new(), |own| as_text(own) + "\n");
            (value, own + &tree_text(args, &sets, &unreadable), damaged, complete)
        }
    };
    let written = say(&if args.json { format!("{value:#}\n") } else { text });
    let found = match (damaged, complete) {
        (true, _) => Exit::Damaged,
        (false, false) => Exit::CannotTell,
        (false, true) => Exit::Good,
    };
    found.unless(written)
}

fn is_damaged(set: &BackupSet) -> bool {
    let unusable = |error: &StreamError| matches!(error, StreamError::Damaged(_));
    set.problems.iter().any(|problem| problem.severity() == Severity::Damage) || errors(set).any(unusable)
}

fn is_readable(set: &BackupSet) -> bool {
    !errors(set).any(|error| matches!(error, StreamError::Read { .. }))
}

/// Why the meta texts of streams cannot be used.
fn errors(set: &BackupSet) -> impl Iterator<Item = &StreamError> {
    set.points.iter().flat_map(|point| point.disks.values()).filter_map(|content| match content {
        PointDisk::Stream(entry) => entry.meta.as_ref().err(),
        PointDisk::Raw(_) => None,
    })
}

fn total(set: &BackupSet) -> u64 {
    set.points.iter().flat_map(|point| point.disks.values()).map(PointDisk::file_len).sum()
}

/// One line for each set.
fn tree_text(args: &Args, sets: &[BackupSet], unreadable: &[String]) -> String {
    let head = ["DOMAIN", "FOLDER", "POINTS", "DISKS", "SIZE", "NEWEST", "TAKEN", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for set in sets {
        let dir = set.dir.strip_prefix(&args.path).unwrap_or(&set.dir);
        let newest = set.newest();
        rows.push(vec![
            set.domain.clone().unwrap_or("-".to_owned()),
            if dir.as_os_str().is_empty() { ".".to_owned() } else { dir.display().to_string() },
            set.points.len().to_string(),
            set.disks().len().to_string(),
            text::size(total(set)),
            newest.map_or("-".to_owned(), |point| point.id.to_string()),
            newest.and_then(taken).map_or("-".to_owned(), |taken| minute(taken).replace('T', " ")),
            match (is_damaged(set), set.problems.is_empty()) {
                (true, _) => "DAMAGED".to_owned(),
                (false, false) => "warnings".to_owned(),
                (false, true) => String::new(),
            },
        ]);
    }
    let mut out = text::narrow_table(rows, &["NEWEST", "DOMAIN", "DISKS"]);
    for text in unreadable {
        out.push_str(&format!("\nunreadable: {text}"));
    }
    let points = sets.iter().map(|set| set.points.len()).sum();
    out.push_str(&format!(
        "\n{}: {}, {}, {}\n",
        args.path.display(),
        text::count(sets.len(), "backup set"),
        text::count(points, "restore point"),
        text::size(sets.iter().map(total).sum())
    ));
    out
}

fn file_text(file: &PointDisk) -> String {
    let path = file.path().display();
    let entry = match file {
        PointDisk::Raw(image) => return format!("{path}: raw image of {}\n", text::size(image.len)),
        PointDisk::Stream(entry) => entry,
    };
    let meta = match &entry.meta {
        Err(error) => return format!("{path}: DAMAGED: {error}\n"),
        Ok(meta) => meta,
    };
    let coding = coding(meta);
    let parent = if meta.parent_checkpoint.is_empty() { "-" } else { &meta.parent_checkpoint };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("disk", format!("{}, {}, {}", meta.disk_name, text::size(meta.virtual_size), meta.disk_format)),
        row("taken", meta.date.split('.').next().unwrap_or("-").replace('T', " ")),
        row("checkpoint", meta.checkpoint_name.clone()),
        row("parent", parent.to_owned()),
        row("stored", format!("{} of {}, {coding}", text::size(entry.file_len), text::size(meta.data_size))),
        row("checksum", if entry.checksum.is_some() { "beside it" } else { "none" }.to_owned()),
        row("version", meta.stream_version.to_string()),
    ];
    format!("{path}\n\n{}", text::table(&rows))
}

fn as_text(set: &BackupSet) -> String {
    let disks: Vec<DiskTarget> = set.disks().into_iter().collect();
    let domain = set.domain.as_deref().map_or(String::new(), |domain| format!("{domain} in "));
    let mut out = format!(
        "{domain}{}: {}, {}, {}\n\n",
        set.dir.display(),
        text::count(set.points.len(), "restore point"),
        text::count(disks.len(), "disk"),
        text::size(total(set))
    );
    let mut head = vec!["POINT".to_owned(), "TAKEN".to_owned()];
    head.extend(disks.iter().map(|disk| disk.to_string().to_uppercase()));
    let mut rows = vec![head];
    for point in &set.points {
        let mut row = vec![point.id.to_string(), taken(point).unwrap_or("-").replace('T', " ")];
        row.extend(disks.iter().map(|disk| cell(point.disks.get(disk))));
        rows.push(row);
    }
    let wide = text::table(&rows);
    out.push_str(&if text::fits(&wide) { wide } else { text::table(&tall_rows(set)) });
    out.push('\n');
    let newest: Vec<_> = disks.iter().map(|disk| disk_row(set, disk)).collect();
    out.push_str(&text::table(&newest));
    for problem in &set.problems {
        let word = match problem.severity() {
            Severity::Damage => "damage",
            Severity::Warning => "warning",
        };
        out.push_str(&format!("\n{word}: {problem}"));
    }
    if !set.problems.is_empty() {
        out.push('\n');
    }
    out
}

/// A line for each disk of each point, where one for all of them would be too long.
fn tall_rows(set: &BackupSet) -> Vec<Vec<String>> {
    let mut rows = vec![["POINT", "TAKEN", "DISK", "STORED"].map(str::to_owned).to_vec()];
    for point in &set.points {
        let mut head = [point.id.to_string(), taken(point).unwrap_or("-").replace('T', " ")];
        for (disk, content) in &point.disks {
            let mut row = head.to_vec();
            row.extend([disk.to_string(), cell(Some(content))]);
            rows.push(row);
            // The others of a point stand below it.
            head = Default::default();
        }
    }
    rows
}

/// A time without its seconds.
fn minute(taken: &str) -> &str {
    taken.get(..16).unwrap_or(taken)
}

/// Bytes stored, and what they hold.
fn cell(content: Option<&PointDisk>) -> String {
    match content {
        None => "-".to_owned(),
        Some(PointDisk::Raw(image)) => format!("{} raw", text::size(image.len)),
        Some(PointDisk::Stream(entry)) => match &entry.meta {
            Ok(_) if entry.is_placeholder() => "(no disk yet)".to_owned(),
            Ok(meta) if meta.data_size == 0 => "(no change)".to_owned(),
            Ok(meta) => format!("{} of {}", text::size(entry.file_len), text::size(meta.data_size)),
            Err(StreamError::Damaged(_)) => format!("{} DAMAGED", text::size(entry.file_len)),
            Err(StreamError::Read { .. }) => format!("{} UNREADABLE", text::size(entry.file_len)),
        },
    }
}

fn coding(meta: &StreamMeta) -> String {
    meta.compression.map_or("uncompressed".to_owned(), |compression| compression.to_string())
}

/// A disk as its newest stream describes it.
fn disk_row(set: &BackupSet, disk: &DiskTarget) -> Vec<String> {
    let newest = set.points.iter().rev().find_map(|point| match point.disks.get(disk)? {
        PointDisk::Raw(image) => Some((image.len, "raw".to_owned(), "plain copy".to_owned())),
        PointDisk::Stream(entry) => {
            let meta = entry.meta.as_ref().ok().filter(|_| !entry.is_placeholder())?;
            Some((meta.virtual_size, meta.disk_format.clone(), coding(meta)))
        }
    });
    let (size, format, coding) = newest
        .map_or(("size unknown".to_owned(), String::new(), String::new()), |(size, format, coding)| {
            (text::size(size), format, coding)
        });
    vec![disk.to_string(), size, format, coding]
}

fn as_json(set: &BackupSet) -> Value {
    let points: Vec<Value> = set.points.iter().map(point_json).collect();
    let problems: Vec<Value> = set
        .problems
        .iter()
        .map(|problem| {
            let damage = problem.severity() == Severity::Damage;
            json!({"level": if damage { "damage" } else { "warning" }, "message": problem.to_string()})
        })
        .collect();
    let disks: Vec<String> = set.disks().iter().map(DiskTarget::to_string).collect();
    json!({
        "dir": set.dir.display().to_string(),
        "domain": set.domain,
        "disks": disks,
        "points": points,
        "problems": problems,
    })
}

fn point_json(point: &Point) -> Value {
    let disks: serde_json::Map<String, Value> =
        point.disks.iter().map(|(disk, content)| (disk.to_string(), disk_json(content))).collect();
    json!({
        "point": point.id.to_string(),
        "parent": point.parent.map(|parent| parent.to_string()),
        "taken": taken(point),
        "vmconfig": point.vmconfig.as_ref().map(|path| path.display().to_string()),
        "disks": disks,
    })
}

fn disk_json(content: &PointDisk) -> Value {
    let file = content.path().display().to_string();
    let file_bytes = content.file_len();
    let sidecar = content.sidecar().is_some();
    match content {
        PointDisk::Raw(_) => {
            json!({"file": file, "file_bytes": file_bytes, "raw": true, "sidecar": sidecar})
        }
        PointDisk::Stream(entry) => match &entry.meta {
            Err(error) => json!({"file": file, "file_bytes": file_bytes, "error": error.to_string()}),
            Ok(meta) => json!({
                "file": file,
                "file_bytes": file_bytes,
                "virtual_bytes": meta.virtual_size,
                "data_bytes": meta.data_size,
                "date": meta.date,
                "format": meta.disk_format,
                "checkpoint": meta.checkpoint_name,
                "parent": meta.parent_checkpoint,
                "incremental": meta.incremental,
                "compression": meta.compression.map(Compression::method),
                "level": meta.compression.map(Compression::level),
                "checksum_file": entry.checksum.is_some(),
                "sidecar": sidecar,
            }),
        },
    }
}
