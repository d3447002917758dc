//! What a person types and sees.
//!
//! Must not live here: anything that reads a stream or decides what a set is worth.

mod cat;
mod compare;
mod convert;
mod doctor;
mod document;
mod drawing;
mod exit;
mod extract;
mod failure;
mod hint;
mod info;
mod map;
mod output;
mod progress;
mod signals;
mod subject;
mod until;
mod verify;

use clap::{Parser, Subcommand};
use exit::Exit;
use failure::Failure;
use output::{say, tell, warn};
use std::path::Path;
use std::process::ExitCode;

use until::Until;
use vmstream::chain::{BackupSet, Definition, DiskTarget, Point, PointId, SetProblem, Severity};
use vmstream::{default_workers, text};

/// Inspect, verify and extract virtnbdbackup-compatible backup sets, without libvirt
#[derive(Debug, Parser)]
#[command(name = "vmstream", version, term_width = text::WIDTH)]
#[command(after_help = "\
Examples:
  vmstream info /backup                    what is there
  vmstream verify /backup/vm/202611        can it be restored?
  vmstream extract /backup/vm/202611 --disk vda -o vda.qcow2
  vmstream COMMAND --help                  more of them

Exit codes: 0 done and good, 1 damaged, 2 cannot tell or wrong usage;
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
    /// Write a part of a disk as it was at a restore point to standard output
    Cat(cat::Args),
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
    let (done, json) = match args.command {
        Command::Info(args) => (Ok(info::run(&args)), args.json),
        Command::Verify(args) => (Ok(verify::run(&args)), args.json),
        Command::Extract(args) => (extract::run(&args), args.json),
        Command::Cat(args) => (cat::run(&args), args.json),
        Command::Map(args) => (map::run(&args), args.json),
        Command::Convert(args) => (convert::run(&args), args.json),
        Command::Doctor(args) => (Ok(doctor::run(&args)), args.json),
        Command::Compare(args) => (compare::run(&args), args.json),
    };
    done.unwrap_or_else(|failure| failure.report(json)).into()
}

/// Help and the version are results; all else is wrong usage.
fn not_parsed(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        return say(&error.render().to_string());
    }
    let mut text = error.render().to_string();
    text.push_str(&hint::of(error).unwrap_or_default());
    let json = std::env::args_os().any(|argument| argument == "--json");
    if json {
        // The first line says what is wrong, the others help a person.
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        output::say_json(&Failure::refused(first).json());
    }
    tell(&text);
    Exit::CannotTell
}

/// Opens a set and settles which of its points is meant: the newest, unless one is named.
fn open_at(dir: &Path, until: Option<&Until>) -> Result<(BackupSet, PointId), Failure> {
    let set = BackupSet::open(dir).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
    let point = Until::find(until, &set)?.id;
    say_unfinished(&set, until);
    Ok((set, point))
}

/// Says what is damaged in a set, and what may be of another backup.
fn say_problems(set: &BackupSet) {
    let told = |problem: &&SetProblem| matches!(problem.severity(), Severity::Damage | Severity::Doubt);
    set.problems.iter().filter(told).for_each(output::warn);
}

/// The disk that is meant: the only one, unless one is named.
fn the_disk(
    named: Option<&DiskTarget>,
    set: &BackupSet,
    point: PointId,
    otherwise: &str,
) -> Result<DiskTarget, Failure> {
    if let Some(disk) = named {
        return Ok(disk.clone());
    }
    let point = set.point(point).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
    let mut disks = set.disks_at(point);
    match disks.len() {
        1 => Ok(disks.remove(0)),
        0 => Err(without_disks(point)),
        _ => {
            let names: Vec<_> = disks.iter().map(DiskTarget::to_string).collect();
            Err(Failure::refused(format!(
                "{} has several disks, {}: name one with --disk{otherwise}",
                point.id,
                names.join(", ")
            )))
        }
    }
}

/// The failure of who wants a disk of a point that has none.
fn without_disks(point: &Point) -> Failure {
    let definition = point.definition.as_ref().map_or("no disk".to_owned(), Definition::text);
    Failure::refused(format!("{} holds {definition}", point.id))
}

/// Who names no point gets the newest: says so where another one was begun.
fn say_unfinished(set: &BackupSet, until: Option<&Until>) {
    let unfinished = set.problems.iter().find(|problem| matches!(problem, SetProblem::Unfinished { .. }));
    let newest = set.newest().filter(|_| matches!(until, None | Some(Until::Latest)));
    if let Some((problem, newest)) = unfinished.zip(newest) {
        warn(format_args!("{problem}; {} is the newest one that is whole, and taken here", newest.id));
    }
}
