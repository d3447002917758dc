//! `vmstream extract`

use super::exit::Exit;
use super::progress::Bar;
use super::{fail, say, tell, text, warn};
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use vmstream::chain::{BackupSet, DiskTarget, PointId, SetProblem, Severity};
use vmstream::restore::{ExtractError, ExtractOptions, Extracted, Format, extract, pipe_to};
use vmstream::stream::StreamError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Disk target, such as vda
    #[arg(long)]
    disk: DiskTarget,
    /// Restore point: virtnbdbackup.N, diff.EPOCH or copy [default: the newest]
    #[arg(long, value_name = "POINT")]
    until: Option<PointId>,
    /// Image file or block device to write, or - for standard output (raw)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Format of the image file; qcow2 needs the programs qemu-img and qemu-nbd
    #[arg(long, value_enum, default_value_t = ImageFormat::Raw)]
    format: ImageFormat,
    /// Replace the image file if it exists; overwrite the block device
    #[arg(long)]
    force: bool,
    /// Give an image also when its content is not what its sidecars say was backed up
    #[arg(long)]
    no_check: bool,
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

pub(super) fn run(args: &Args) -> Exit {
    let to_stdout = args.output.as_os_str() == "-";
    if to_stdout && args.format != ImageFormat::Raw {
        tell("error: Standard output takes the raw format only: name a file with -o\n");
        return Exit::CannotTell;
    }
    if to_stdout && std::io::stdout().is_terminal() {
        tell("error: A disk does not fit on a terminal: name a file with -o, or pipe it somewhere\n");
        return Exit::CannotTell;
    }
    let set = match BackupSet::open(&args.dir) {
        Ok(set) => set,
        Err(error) => return fail(&error, Exit::CannotTell),
    };
    for problem in &set.problems {
        if problem.severity() == Severity::Damage || matches!(problem, SetProblem::Doubtful { .. }) {
            warn(problem);
        }
    }
    super::say_unfinished(&set, args.until);
    let Some(point) = args.until.or_else(|| set.newest().map(|point| point.id)) else {
        tell(&format!("error: {} holds no restore point\n", args.dir.display()));
        return Exit::CannotTell;
    };
    let bar = Bar::new(0);
    let done = if to_stdout {
        // Without a lock on standard output and its line buffer: whole windows go to the pipe as they are.
        match std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned() {
            Ok(out) => {
                let mut out = std::fs::File::from(out);
                pipe_to(&set, &args.disk, point, (&mut out, !args.no_check), args.workers, &bar)
            }
            Err(source) => Err(ExtractError::Pipe { source }),
        }
    } else {
        let options = ExtractOptions {
            replace: args.force,
            format: args.format.into(),
            check: !args.no_check,
            workers: args.workers,
        };
        extract(&set, &args.disk, point, &args.output, options, &bar)
    };
    bar.clear();
    match done {
        Ok(done) => {
            done.unused_sidecars.iter().for_each(warn);
            let mut written = Exit::Good;
            if !to_stdout {
                written = say(&format!(
                    "Disk {} at {point}: {} ({} not zero) in {}{}\n",
                    args.disk,
                    text::size(done.size),
                    text::size(done.written_bytes),
                    args.output.display(),
                    proof_text(&done)
                ));
            }
            if done.wrong_bytes > 0 {
                warn(format!(
                    "{} of it is not what was backed up, by its checksums in the sidecars",
                    text::size(done.wrong_bytes)
                ));
            }
            if done.taken != point {
                warn(format!(
                    "{} is a raw disk: its content is that of {}, not of {point}",
                    args.disk, done.taken
                ));
            }
            written
        }
        Err(error) => {
            let exit = exit_of(&error);
            fail(&error, exit)
        }
    }
}

/// What the sidecars say of the content.
fn proof_text(done: &Extracted) -> String {
    match done.proven_bytes {
        None => String::new(),
        Some(proven) if proven == done.size => ", proven by its sidecars".to_owned(),
        Some(proven) => format!(", {} of it proven by its sidecars", text::size(proven)),
    }
}

/// A damaged or missing stream is damage; all else is a wish that cannot be met here.
pub(super) fn exit_of(error: &ExtractError) -> Exit {
    use vmstream::chain::SetError;
    match error {
        ExtractError::Map(map) if matches!(map.source, StreamError::Damaged(_)) => Exit::Damaged,
        ExtractError::Wrong { .. }
        | ExtractError::RawLength { .. }
        | ExtractError::Misplaced { .. }
        | ExtractError::Checksum { .. }
        | ExtractError::Set(SetError::Lost { .. }) => Exit::Damaged,
        _ => Exit::CannotTell,
    }
}
