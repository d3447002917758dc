//! `vmstream extract`: writes a disk as it was at a restore point to an image.

use super::exit::Exit;
use super::failure::Failure;
use super::output::{raw_stdout, say, say_json, warn};
use super::progress::Bar;
use super::until::{self, Until};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, DiskTarget, Point, PointId};
use vmstream::doctor::diagnose;
use vmstream::restore::{ExtractError, ExtractOptions, Extracted, Format, extract, pipe_to};
use vmstream::stream::StreamError;
use vmstream::text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream extract /backup/vm/202611 -o vm.qcow2
  vmstream extract /backup/vm/202611 --until 2026-11-22 -o /dev/vg/vm --force
  vmstream extract /backup/vm/202611 --all /restored --format qcow2
  vmstream extract /backup/vm/202611 --disk vda -o - | ssh host 'cat >vda'

Exit codes: 0 done, 1 the backup is damaged, 2 cannot tell or wrong usage;
            nothing is left of an image file then")]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Disk target, such as vda [default: the only one]
    #[arg(long)]
    disk: Option<DiskTarget>,
    #[arg(long, value_name = "POINT", help = until::HELP)]
    until: Option<Until>,
    /// Image file or block device to write, or - for standard output (raw)
    #[arg(short, long, value_name = "FILE", required_unless_present = "all")]
    output: Option<PathBuf>,
    /// Write all disks of the point into this folder: DIR/vda.raw, DIR/vda.qcow2
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "disk"])]
    all: Option<PathBuf>,
    /// Format of the image file [default: as its name ends, or raw]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<ImageFormat>,
    /// Replace the image file if it exists; overwrite the block device
    #[arg(long)]
    force: bool,
    /// Give an image also when its content is not what its sidecars say was backed up
    #[arg(long)]
    no_check: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Threads; each needs up to 64 MiB
    #[arg(long, default_value_t = super::default_workers())]
    workers: NonZeroUsize,
}

/// Formats as people type them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ImageFormat {
    Raw,
    Qcow2,
}

impl From<ImageFormat> for Format {
    fn from(format: ImageFormat) -> Self {
        match format {
            ImageFormat::Raw => Self::Raw,
            ImageFormat::Qcow2 => Self::Qcow2,
        }
    }
}

impl ImageFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    /// What the end of a file's name says. Nobody who asks for `x.vmdk` wants raw bytes in it.
    fn of_name(path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
        match extension.as_deref() {
            Some("qcow2" | "qcow") => Ok(Self::Qcow2),
            Some(other @ ("vmdk" | "vdi" | "vhd" | "vhdx" | "vpc" | "qed")) => {
                Err(Failure::refused(format!(
                    "vmstream writes raw and qcow2 images, not {other}: extract to one of these, and let qemu-img \
                 convert make a {other}; --format raw writes {} as it is named",
                    path.display()
                )))
            }
            _ => Ok(Self::Raw),
        }
    }
}

/// One disk and where it goes.
struct Job {
    disk: DiskTarget,
    output: PathBuf,
    format: ImageFormat,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let to_stdout = args.output.as_deref().is_some_and(is_stdout);
    if to_stdout && (args.json || args.format == Some(ImageFormat::Qcow2)) {
        let what =
            if args.json { "gets the disk: --json has no place there" } else { "takes the raw format only" };
        return Err(Failure::refused(format!("Standard output {what}: name a file with -o")));
    }
    if to_stdout && std::io::stdout().is_terminal() {
        let text = "A disk does not fit on a terminal: name a file with -o, or pipe it somewhere";
        return Err(Failure::refused(text));
    }
    let set = BackupSet::open(&args.dir).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
    super::say_problems(&set);
    super::say_unfinished(&set, args.until.as_ref());
    let point = Until::find(args.until.as_ref(), &set)?;
    let jobs = jobs(args, &set, point)?;
    if !diagnose(&set).sound_points.contains(&point.id) {
        warn(DOCTOR);
    }
    let (mut lines, mut values, mut worst) = (String::new(), Vec::new(), Exit::Good);
    for job in &jobs {
        match one(args, &set, point.id, job) {
            Ok(done) => {
                lines.push_str(&line(job, point.id, &done));
                values.push(as_json(job, &done));
            }
            // One of many does not keep the others from being restored.
            Err(failure) if jobs.len() > 1 => {
                values.push(json!({"disk": job.disk.to_string(), "error": failure.json()}));
                worst = worst.worse(failure.report(false));
            }
            Err(failure) => return Err(failure),
        }
    }
    let written = match (to_stdout, args.json) {
        (true, _) => Exit::Good,
        (_, false) => say(&lines),
        (_, true) => say_json(&json!({
            "schema": "vmstream/extract/1",
            "dir": args.dir.display().to_string(),
            "point": point.id.to_string(),
            "disks": values,
        })),
    };
    Ok(worst.unless(written))
}

/// What to do about increments by a program with defects.
pub(super) const DOCTOR: &str =
    "this point is made of increments by virtnbdbackup that may lack changes: vmstream doctor says more";

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn jobs(args: &Args, set: &BackupSet, point: &Point) -> Result<Vec<Job>, Failure> {
    if let Some(output) = &args.output {
        let disk = super::the_disk(args.disk.as_ref(), set, point.id, ", or take all with --all DIR")?;
        let format = args.format.map_or_else(|| ImageFormat::of_name(output), Ok)?;
        return Ok(vec![Job { disk, output: output.clone(), format }]);
    }
    let disks = set.disks_at(point);
    if disks.is_empty() {
        return Err(super::without_disks(point).or("nothing was written"));
    }
    let dir = args.all.clone().unwrap_or_default();
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::refused(format!("Cannot make the folder {}: {error}", dir.display())))?;
    let format = args.format.unwrap_or(ImageFormat::Raw);
    let job = |disk: DiskTarget| Job { output: dir.join(format!("{disk}.{}", format.name())), disk, format };
    let jobs: Vec<_> = disks.into_iter().map(job).collect();
    // Before the first is written, not in the middle of the work.
    match jobs.iter().find(|job| !args.force && std::fs::symlink_metadata(&job.output).is_ok()) {
        None => Ok(jobs),
        Some(job) => Err(Failure::refused(format!(
            "{} exists already: choose another folder, or give --force to replace it. Nothing was written",
            job.output.display()
        ))),
    }
}

fn one(args: &Args, set: &BackupSet, point: PointId, job: &Job) -> Result<Extracted, Failure> {
    let bar = Bar::new(0);
    let done = if is_stdout(&job.output) {
        match raw_stdout() {
            Ok(mut out) => pipe_to(set, &job.disk, point, (&mut out, !args.no_check), args.workers, &bar),
            Err(source) => Err(ExtractError::Pipe { source }),
        }
    } else {
        let options = ExtractOptions {
            replace: args.force,
            format: job.format.into(),
            check: !args.no_check,
            workers: args.workers,
        };
        extract(set, &job.disk, point, &job.output, options, &bar)
    };
    bar.clear();
    let done = done.map_err(|error| failure(&error, "--no-check restores it all the same"))?;
    done.unused_sidecars.iter().for_each(warn);
    if done.wrong_bytes > 0 {
        let wrong = text::size(done.wrong_bytes);
        warn(format!("{wrong} of it is not what was backed up, by its checksums in the sidecars"));
    }
    if done.taken != point {
        let (disk, taken) = (&job.disk, done.taken);
        warn(format!("{disk} is a raw disk: its content is that of {taken}, not of {point}"));
    }
    Ok(done)
}

fn line(job: &Job, point: PointId, done: &Extracted) -> String {
    format!(
        "Disk {} at {point}: {} ({} not zero) in {}, {}{}\n",
        job.disk,
        text::size(done.size),
        text::size(done.written_bytes),
        job.output.display(),
        job.format.name(),
        proof_text(done)
    )
}

fn as_json(job: &Job, done: &Extracted) -> Value {
    json!({
        "disk": job.disk.to_string(),
        "taken": done.taken.to_string(),
        "file": job.output.display().to_string(),
        "format": job.format.name(),
        "disk_bytes": done.size,
        "written_bytes": done.written_bytes,
        "proven_bytes": done.proven_bytes,
        "wrong_bytes": done.wrong_bytes,
        "unused_sidecars": done.unused_sidecars.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What the sidecars say of the content.
fn proof_text(done: &Extracted) -> String {
    match done.proven_bytes {
        None => String::new(),
        Some(proven) if proven == done.size => ", proven by its sidecars".to_owned(),
        Some(proven) => format!(", {} of it proven by its sidecars", text::size(proven)),
    }
}

/// The failure, with the way around a check that refuses.
pub(super) fn failure(error: &ExtractError, way: &str) -> Failure {
    let failure = Failure::of(error, exit_of(error));
    if error.is_of_check() { failure.or(way) } else { failure }
}

/// A damaged or missing stream is damage; all else is a wish that cannot be met here.
pub(super) fn exit_of(error: &ExtractError) -> Exit {
    use vmstream::chain::SetError;
    match error {
        ExtractError::Overwritten { source, .. } => exit_of(source),
        ExtractError::Disk(error) if error.is_damage() => Exit::Damaged,
        ExtractError::Map(map) if matches!(map.source, StreamError::Damaged(_)) => Exit::Damaged,
        ExtractError::Wrong { .. }
        | ExtractError::RawLength { .. }
        | ExtractError::Misplaced { .. }
        | ExtractError::Checksum { .. }
        | ExtractError::Set(SetError::Lost { .. }) => Exit::Damaged,
        _ => Exit::CannotTell,
    }
}
