//! `vmstream verify`: proves that backups can be restored, and names what is damaged or lost.
//!
//! Lives here: the arguments, and from them to the exit code. What is told, and how: in the files of this folder.

mod findings;
mod json;
mod points;
mod text;
mod totals;

use super::exit::Exit;
use super::output::{Out, warn};
use super::subject::{Reach, Subjects};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use vmstream::verify::{Depth, Verdict, VerifyOptions};

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
        true => json::tell(subjects, options, &mut out),
        false => text::tell(&args.paths, subjects, options, &mut out),
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
