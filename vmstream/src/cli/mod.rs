//! What a person types and sees.
//!
//! Must not live here: anything that reads a stream or decides what a set is worth.

mod compare;
mod convert;
mod doctor;
mod exit;
mod extract;
mod info;
mod map;
mod output;
mod progress;
mod signals;
mod subject;
mod text;
mod verify;

use clap::{Parser, Subcommand};
use exit::Exit;
use output::{say, tell, warn};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use vmstream::chain::{BackupSet, PointId, SetProblem};

/// Inspect, verify and extract virtnbdbackup-compatible backup sets, without libvirt
#[derive(Debug, Parser)]
#[command(name = "vmstream", version)]
#[command(after_help = "Exit codes: 0 done and good, 1 damaged, 2 cannot tell or wrong usage;\n            \
             ended by a signal: 129 hang-up, 130 Ctrl-C, 143 SIGTERM")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the restore points, disks and sizes of backups
    Info(info::Args),
    /// Prove that backups can be restored, and name what is damaged and what is lost
    Verify(verify::Args),
    /// Write a disk as it was at a restore point to an image file, a block device or standard output
    Extract(extract::Args),
    /// Show which restore point supplies each part of a disk
    Map(map::Args),
    /// Compare a disk as it was at a restore point with an image
    Compare(compare::Args),
    /// Write a backup set again in a new folder: in another compression, or its chain as one new full
    Convert(convert::Args),
    /// Name backups of virtnbdbackup that may have lost changes when they were written
    Doctor(doctor::Args),
}

/// Runs the command line and returns the exit code.
pub(crate) fn run() -> ExitCode {
    signals::listen();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return not_parsed(&error).into(),
    };
    let exit = match args.command {
        Command::Info(args) => info::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Extract(args) => extract::run(&args),
        Command::Map(args) => map::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Compare(args) => compare::run(&args),
    };
    exit.into()
}

/// Help and the version are results; all else is wrong usage.
fn not_parsed(error: &clap::Error) -> Exit {
    let styled = error.render();
    if error.use_stderr() {
        tell(&styled.to_string());
        return Exit::CannotTell;
    }
    say(&styled.to_string())
}

/// Opens a set and settles which of its points is meant: the newest, unless one is named. Says why it cannot.
fn open_at(dir: &Path, until: Option<PointId>) -> Result<(BackupSet, PointId), Exit> {
    let set = BackupSet::open(dir).map_err(|error| fail(&error, Exit::CannotTell))?;
    match until.or_else(|| set.newest().map(|point| point.id)) {
        Some(point) => {
            say_unfinished(&set, until);
            Ok((set, point))
        }
        None => {
            tell(&format!("error: {} holds no restore point\n", dir.display()));
            Err(Exit::CannotTell)
        }
    }
}

/// Who names no point gets the newest: says so where another one was begun.
fn say_unfinished(set: &BackupSet, until: Option<PointId>) {
    let unfinished = set.problems.iter().find(|problem| matches!(problem, SetProblem::Unfinished { .. }));
    if let (Some(problem), Some(newest), None) = (unfinished, set.newest(), until) {
        warn(format_args!("{problem}; {} is the newest one that is whole, and taken here", newest.id));
    }
}

/// Prints an error with its causes, and says how the program ends.
fn fail(error: &dyn std::error::Error, exit: Exit) -> Exit {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!("  because: {inner}\n"));
        cause = inner.source();
    }
    tell(&text);
    exit
}

/// Each worker needs up to 64 MiB, and few disks keep more than four busy.
fn default_workers() -> NonZeroUsize {
    let four = NonZeroUsize::MIN.saturating_add(3);
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(four))
}
