//! `vmstream extract`

use super::exit::Exit;
use super::progress::Bar;
use super::{fail, text};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use vmstream::chain::{BackupSet, DiskTarget, PointId, Severity};
use vmstream::restore::{ExtractError, ExtractOptions, extract};
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
    /// Image file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the image file if it exists
    #[arg(long)]
    force: bool,
    /// Threads; each needs up to 64 MiB
    #[arg(long, default_value_t = super::default_workers())]
    workers: NonZeroUsize,
}

pub(super) fn run(args: &Args) -> Exit {
    if args.output.as_os_str() == "-" {
        eprintln!("error: Writing to standard output is not possible yet: name a file with -o");
        return Exit::CannotTell;
    }
    let set = match BackupSet::open(&args.dir) {
        Ok(set) => set,
        Err(error) => return fail(&error, Exit::CannotTell),
    };
    for problem in set.problems.iter().filter(|problem| problem.severity() == Severity::Damage) {
        eprintln!("warning: {problem}");
    }
    let Some(point) = args.until.or_else(|| set.newest().map(|point| point.id)) else {
        eprintln!("error: {} holds no restore point", args.dir.display());
        return Exit::CannotTell;
    };
    let bar = Bar::new(0);
    let options = ExtractOptions { replace: args.force, workers: args.workers };
    let done = extract(&set, &args.disk, point, &args.output, options, &bar);
    bar.clear();
    match done {
        Ok(done) => {
            println!(
                "Disk {} at {point}: {} ({} not zero) in {}",
                args.disk,
                text::size(done.size),
                text::size(done.written_bytes),
                args.output.display()
            );
            if done.taken != point {
                eprintln!(
                    "warning: {} is a raw disk: its content is that of {}, not of {point}",
                    args.disk, done.taken
                );
            }
            Exit::Good
        }
        Err(error) => {
            let exit = exit_of(&error);
            fail(&error, exit)
        }
    }
}

/// A damaged or missing stream is damage; all else is a wish that cannot be met here.
fn exit_of(error: &ExtractError) -> Exit {
    use vmstream::chain::SetError;
    match error {
        ExtractError::Map(map) if matches!(map.source, StreamError::Damaged(_)) => Exit::Damaged,
        ExtractError::Set(SetError::Lost { .. }) => Exit::Damaged,
        _ => Exit::CannotTell,
    }
}
