//! `vmstream info`. It ends with 1 where it shows damage, with 2 where something could not be read.

use super::document::Node;
use super::exit::Exit;
use super::failure::Failure;
use super::output::Out;
use super::subject::{Reach, Subjects};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, Definition, DiskTarget, Point, PointDisk, Severity};
use vmstream::sidecar::LeftOut;
use vmstream::stream::{Compression, StreamError, StreamMeta};
use vmstream::text::{self, Columns};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream info /backup
  vmstream info /backup/vm/202611
  vmstream info /backup/vm/202611/vda.full.data --json

Exit codes: 0 nothing wrong at a glance, 1 damaged, 2 cannot tell or wrong
            usage. It reads no content: that is what verify is for")]
pub(super) struct Args {
    /// Folders of backup sets, folders with many of them, or stream files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let subjects = match Subjects::open(&args.paths, &args.reach) {
        Err(failure) => return failure.report(args.json),
        Ok(subjects) => subjects,
    };
    let mut out = if args.json { Out::json() } else { Out::text() };
    let totals = match args.json {
        true => tell_json(subjects, &mut out),
        false => tell_text(args, subjects, &mut out),
    };
    Exit::of_counts(totals.damaged, totals.unreadable).unless(out.finish())
}

/// What is known of all that was looked at, when each set is let go.
#[derive(Default)]
struct Totals {
    sets: usize,
    files: usize,
    points: usize,
    bytes: u64,
    damaged: usize,
    /// Paths, sets and files that could not be read, or not all of them.
    unreadable: usize,
}

impl Totals {
    fn set(&mut self, set: &BackupSet) {
        self.sets += 1;
        self.points += set.points.len();
        self.bytes += total(set);
        self.damaged += usize::from(is_damaged(set));
        self.unreadable += usize::from(!is_readable(set));
    }

    fn file(&mut self, file: &PointDisk) {
        self.files += 1;
        self.bytes += file.file_len();
        self.damaged += usize::from(matches!(file, PointDisk::Stream(entry) if entry.meta.is_err()));
    }
}

/// One set is shown whole, many are a line each.
fn tell_text(args: &Args, mut subjects: Subjects, out: &mut Out) -> Totals {
    let mut totals = Totals::default();
    let (alone, root) = (subjects.alone, args.paths.first().filter(|_| args.paths.len() == 1));
    let folder = |dir: &Path| {
        let dir = root.and_then(|root| dir.strip_prefix(root).ok()).unwrap_or(dir);
        if dir.as_os_str().is_empty() { ".".to_owned() } else { dir.display().to_string() }
    };
    let columns = columns(&subjects.dirs, folder);
    let mut first = true;
    subjects.each_set(|set| {
        totals.set(set);
        let is_root = root.is_some_and(|root| set.dir == *root);
        if alone || is_root {
            out.say(&text::wrapped(&as_text(set)));
        }
        if !alone {
            if std::mem::take(&mut first) {
                out.say(if is_root { "\n" } else { "" });
                out.say(&columns.row(&HEAD));
            }
            out.say(&columns.row(&row(set, folder(&set.dir))));
            out.flush();
        }
    });
    for file in &subjects.files {
        totals.file(file);
        out.say(&format!("{}{}", if alone { "" } else { "\n" }, text::wrapped(&file_text(file))));
    }
    for text in &subjects.unreadable {
        out.say(&text::wrapped(&format!("\nunreadable: {text}")));
    }
    totals.unreadable += subjects.unreadable.len();
    if !alone {
        let name = root.map_or("All".to_owned(), |root| root.display().to_string());
        let files = if totals.files == 0 { String::new() } else { text::count(totals.files, "file") + ", " };
        out.say(&text::wrapped(&format!(
            "\n{name}: {}, {files}{}, {}\n",
            text::count(totals.sets, "backup set"),
            text::count(totals.points, "restore point"),
            text::size(totals.bytes)
        )));
    }
    totals
}

/// The document, part by part.
fn tell_json(mut subjects: Subjects, out: &mut Out) -> Totals {
    let mut totals = Totals::default();
    let mut document = Node::document(out, "vmstream/info/1");
    let mut sets = document.list("sets");
    subjects.each_set(|set| {
        totals.set(set);
        sets.item(&as_json(set));
    });
    sets.close();
    let mut files = document.list("files");
    for file in &subjects.files {
        totals.file(file);
        files.item(&disk_json(file));
    }
    files.close();
    totals.unreadable += subjects.unreadable.len();
    document.member("unreadable", &subjects.unreadable.into());
    let summary = json!({
        "sets": totals.sets,
        "files": totals.files,
        "points": totals.points,
        "bytes": totals.bytes,
        "damaged": totals.damaged,
    });
    document.member("totals", &summary);
    document.close();
    totals
}

fn is_damaged(set: &BackupSet) -> bool {
    let unusable = |error: &StreamError| matches!(error, StreamError::Damaged(_));
    set.problems.iter().any(|problem| problem.severity() == Severity::Damage)
        || errors(set).any(|(_, error)| unusable(error))
}

fn is_readable(set: &BackupSet) -> bool {
    !errors(set).any(|(_, error)| matches!(error, StreamError::Read { .. }))
}

/// Why the meta texts of streams cannot be used.
fn errors(set: &BackupSet) -> impl Iterator<Item = (&Path, &StreamError)> {
    set.points.iter().flat_map(|point| point.disks.values()).filter_map(|content| match content {
        PointDisk::Stream(entry) => Some((entry.path.as_path(), entry.meta.as_ref().err()?)),
        PointDisk::Raw(_) => None,
    })
}

/// An error with its causes.
fn reason(error: &StreamError) -> String {
    Failure::of(error, Exit::CannotTell).line()
}

fn total(set: &BackupSet) -> u64 {
    let of_point = |point: &Point| {
        let definition = point.definition.as_ref().map_or(0, Definition::bytes);
        point.disks.values().map(PointDisk::file_len).sum::<u64>() + definition
    };
    set.points.iter().map(of_point).sum()
}

const HEAD: [&str; 7] = ["DOMAIN", "FOLDER", "POINTS", "DISKS", "SIZE", "TAKEN", ""];

/// As wide as the folders need it. Domains are not known yet: most of them have a folder of their name.
fn columns(dirs: &[PathBuf], folder: impl Fn(&Path) -> String) -> Columns {
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0).max("DOMAIN".len());
    let folders: Vec<_> = dirs.iter().map(|dir| folder(dir)).collect();
    let parts = folders.iter().flat_map(|folder| folder.split('/'));
    let domain = longest(&mut parts.map(|part| part.chars().count()));
    let folder = longest(&mut folders.iter().map(|folder| folder.chars().count()));
    Columns::new(&[domain, folder, 6, 5, 8, 16, 8], &[0, 3])
}

/// One line for each set.
fn row(set: &BackupSet, folder: String) -> [String; 7] {
    [
        set.domain.clone().unwrap_or("-".to_owned()),
        folder,
        set.points.len().to_string(),
        set.disks().len().to_string(),
        text::size(total(set)),
        set.newest().and_then(Point::taken).map_or("-".to_owned(), |taken| minute(taken).replace('T', " ")),
        match (is_damaged(set), set.problems.is_empty()) {
            (true, _) => "DAMAGED".to_owned(),
            _ if !is_readable(set) => "UNREADABLE".to_owned(),
            (false, false) => "warnings".to_owned(),
            (false, true) => String::new(),
        },
    ]
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
        let mut row = vec![point.id.to_string(), point.taken().unwrap_or("-").replace('T', " ")];
        row.extend(disks.iter().map(|disk| cell(point.disks.get(disk))));
        rows.push(row);
    }
    let wide = text::table(&rows);
    out.push_str(&if text::fits(&wide) { wide } else { text::table(&tall_rows(set)) });
    out.push('\n');
    let newest: Vec<_> = disks.iter().map(|disk| disk_row(set, disk)).collect();
    out.push_str(&text::table(&newest));
    for (point, definition) in set.points.iter().filter_map(|point| Some((point, point.definition.as_ref()?)))
    {
        out.push_str(&format!("{} holds {}\n", point.id, definition.text()));
    }
    for problem in &set.problems {
        let word = match problem.severity() {
            Severity::Damage => "damage",
            Severity::Doubt | Severity::Warning => "warning",
        };
        out.push_str(&format!("\n{word}: {problem}"));
    }
    for (path, error) in errors(set).filter(|(_, error)| matches!(error, StreamError::Read { .. })) {
        let name = path.strip_prefix(&set.dir).unwrap_or(path).display();
        out.push_str(&format!("\nunreadable: {name}: {}", reason(error)));
    }
    if !set.problems.is_empty() || !is_readable(set) {
        out.push('\n');
    }
    out
}

/// A line for each disk of each point, where one for all of them would be too long.
fn tall_rows(set: &BackupSet) -> Vec<Vec<String>> {
    let mut rows = vec![["POINT", "TAKEN", "DISK", "STORED"].map(str::to_owned).to_vec()];
    for point in &set.points {
        let mut head = [point.id.to_string(), point.taken().unwrap_or("-").replace('T', " ")];
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
        "taken": point.taken(),
        "vmconfig": point.vmconfig.as_ref().map(|path| path.display().to_string()),
        "disks": disks,
        "definition_only": point.definition.is_some(),
        "left_out": point.definition.iter().flat_map(|one| &one.left_out).map(LeftOut::to_json).collect::<Vec<_>>(),
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
            Err(error) => json!({"file": file, "file_bytes": file_bytes, "error": reason(error)}),
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
