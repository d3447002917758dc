//! `vmstream cat`: writes a part of a disk as it was at a restore point to standard output.

use super::exit::Exit;
use super::extract::{DOCTOR, failure};
use super::failure::Failure;
use super::output::{raw_stdout, warn};
use super::progress::Bar;
use super::until::{self, Until};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::path::PathBuf;
use vmstream::chain::{DiskTarget, PointId};
use vmstream::disk::{Check, CopyError, Disk, DiskOptions, Proof};
use vmstream::doctor::diagnose;
use vmstream::verify::{Depth, Watch, total_bytes};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream cat /backup/vm/202611 --length 512 | xxd
  vmstream cat /backup/vm/202611 --disk vda --until 2 --offset 1048576 >rest

Only what holds the bytes is read and decoded, and held against its checksums.
A stream without sidecar is read whole first, and held against its checksum
file. Of more than 32 MiB, what was written before an error is right.

Exit codes: 0 done, 1 the backup is damaged, 2 cannot tell or wrong usage")]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Disk target, such as vda [default: the only one]
    #[arg(long)]
    disk: Option<DiskTarget>,
    #[arg(long, value_name = "POINT", help = until::HELP)]
    until: Option<Until>,
    /// First byte of the disk to write
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Bytes to write [default: all up to the disk's end]
    #[arg(long, value_name = "M")]
    length: Option<u64>,
    /// Write also what comes from streams that belong elsewhere, and do not read those that only a checksum file proves
    #[arg(long)]
    no_check: bool,
    /// Print an error as JSON, if nothing was written before it
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    if io::stdout().is_terminal() {
        let text = "The bytes of a disk are nothing for a terminal: pipe them somewhere, to xxd say";
        return Err(Failure::refused(text));
    }
    let (set, point) = super::open_at(&args.dir, args.until.as_ref())?;
    super::say_problems(&set);
    let target = super::the_disk(args.disk.as_ref(), &set, point, "")?;
    if !diagnose(&set).sound_points.contains(&point) {
        warn(DOCTOR);
    }
    let check = if args.no_check { Check::Skip } else { Check::First };
    let bar = Bar::new(total_bytes(&set, Depth::Content));
    let options = DiskOptions { check, ..DiskOptions::default() };
    let disk = Disk::open(&set, &target, point, options, &|bytes| bar.read(bytes));
    bar.clear();
    let disk = disk.map_err(|error| failure(&error, "--no-check writes it all the same"))?;
    disk.unused_sidecars().iter().for_each(warn);
    let range = range(args, &target, point, disk.size())?;
    if disk.taken() != point {
        warn(format!("{target} is a raw disk: its content is that of {}, not of {point}", disk.taken()));
    }
    let mut out =
        Counted { out: raw_stdout().map_err(|error| Failure::of(&error, Exit::CannotTell))?, written: 0 };
    let bar = Bar::new(0);
    let done = disk.copy_to(range, &mut out, super::default_workers(), &bar);
    bar.clear();
    match done {
        Ok(Proof::Proven) => Ok(Exit::Good),
        Ok(Proof::Unproven) => {
            warn(
                "nothing proves that these bytes are what was backed up: a stream or image that they come from has \
                 neither sidecar nor checksum file, or was not held against it",
            );
            Ok(Exit::Good)
        }
        Err(error) => {
            let exit = match &error {
                CopyError::Disk(error) if error.is_damage() => Exit::Damaged,
                _ => Exit::CannotTell,
            };
            let failure = Failure::of(&error, exit);
            // A document behind bytes of a disk is found by nobody.
            Err(if out.written > 0 { failure.told() } else { failure })
        }
    }
}

/// What was asked for, if the disk reaches so far.
fn range(args: &Args, target: &DiskTarget, point: PointId, size: u64) -> Result<Range<u64>, Failure> {
    let end = args.length.map_or(Some(size), |length| args.offset.checked_add(length));
    match end {
        Some(end) if args.offset <= end && end <= size => Ok(args.offset..end),
        _ => Err(Failure::refused(format!(
            "Disk {target} at {point} has {size} bytes: choose --offset and --length within them"
        ))),
    }
}

/// A file, and how much went there.
struct Counted {
    out: File,
    written: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
