//! `vmstream compare`: tells where a disk at a restore point and an image differ.

use super::exit::Exit;
use super::failure::Failure;
use super::output::{say, say_json, warn};
use super::progress::Bar;
use super::until::{self, Until};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use vmstream::chain::{DiskTarget, PointId};
use vmstream::restore::compare::{CompareError, Compared, ImageFormat, MAX_RANGES, compare};
use vmstream::sidecar::Checked;
use vmstream::text;

/// More ranges than this do not help a person; JSON has more.
const SHOWN_RANGES: usize = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream compare /backup/vm/202611 /var/lib/libvirt/images/vm.qcow2
  vmstream compare /backup/vm/202611 /dev/vg/vm --disk vda --until 2

Exit codes: 0 the same, 1 different or a damaged backup, 2 cannot tell")]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Image to compare with: raw, qcow2 (needs the program qemu-nbd) or a block device
    image: PathBuf,
    /// Disk target, such as vda [default: the only one]
    #[arg(long)]
    disk: Option<DiskTarget>,
    #[arg(long, value_name = "POINT", help = until::HELP)]
    until: Option<Until>,
    /// Format of the image [default: as its first bytes say]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<super::extract::ImageFormat>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Threads; each needs up to 128 MiB
    #[arg(long, default_value_t = super::default_workers())]
    workers: NonZeroUsize,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let (set, point) = super::open_at(&args.dir, args.until.as_ref())?;
    let disk = super::the_disk(args.disk.as_ref(), &set, point, "")?;
    let format = match args.format {
        None => ImageFormat::Detect,
        Some(super::extract::ImageFormat::Raw) => ImageFormat::Raw,
        Some(super::extract::ImageFormat::Qcow2) => ImageFormat::Qcow2,
    };
    let bar = Bar::new(0);
    let done = compare(&set, &disk, point, (&args.image, format), args.workers, &bar);
    bar.clear();
    let found = done.map_err(|error| {
        let exit = match &error {
            CompareError::Disk(error) => super::extract::exit_of(error),
            _ => Exit::CannotTell,
        };
        Failure::of(&error, exit)
    })?;
    found.unused_sidecars.iter().for_each(warn);
    let written = match args.json {
        true => say_json(&as_json(args, &disk, point, &found)),
        false => say(&as_text(args, &disk, point, &found)),
    };
    // An image that is as wrong as the backup is no good image.
    let is_wrong = found.checked.as_ref().is_some_and(|checked| !checked.wrong.is_empty());
    let verdict = if found.is_same() && !is_wrong { Exit::Good } else { Exit::Damaged };
    Ok(verdict.unless(written))
}

fn as_text(args: &Args, disk: &DiskTarget, point: PointId, found: &Compared) -> String {
    let mut out = String::new();
    if found.taken != point {
        out.push_str(&format!(
            "warning: {disk} is a raw disk: its content is that of {}, not of {point}\n",
            found.taken
        ));
    }
    for range in found.ranges.iter().take(SHOWN_RANGES) {
        out.push_str(&format!(
            "different: disk bytes {}..{} ({})\n",
            range.start,
            range.end,
            text::size(range.end - range.start)
        ));
    }
    if found.ranges.len() > SHOWN_RANGES {
        let more = if found.ranges.len() == MAX_RANGES { "or more " } else { "" };
        out.push_str(&format!(
            "… and {} {more}more ranges; --json lists them\n",
            found.ranges.len() - SHOWN_RANGES
        ));
    }
    if let Some(checked) = &found.checked {
        out.push_str(&proof_text(checked, found));
    }
    let image = args.image.display();
    let sizes = if found.image_size == found.size || found.rest_bytes() > 0 {
        text::size(found.size)
    } else {
        format!("{} bytes against {} in the image", found.size, found.image_size)
    };
    let verdict = if found.is_same() {
        "the same".to_owned()
    } else if found.different_bytes == 0 {
        "DIFFERENT in size".to_owned()
    } else {
        format!("DIFFERENT in {}", text::size(found.different_bytes))
    };
    out.push_str(&format!("Disk {disk} at {point} and {image}: {verdict} ({sizes})\n"));
    if found.rest_bytes() > 0 {
        out.push_str(&format!(
            "{image} is longer by {}: what is there was not looked at\n",
            text::size(found.rest_bytes())
        ));
    }
    out
}

/// What the sidecars say of the backup's side.
fn proof_text(checked: &Checked, found: &Compared) -> String {
    match checked.wrong.first() {
        Some(wrong) => format!(
            "warning: the backup is not what was backed up, from disk bytes {}..{} on: vmstream verify --deep says more\n",
            wrong.start, wrong.end
        ),
        None if found.is_same() => String::new(),
        None if checked.unproven_bytes == 0 => {
            "The backup is what was backed up, by its sidecars: it is the image that differs.\n".to_owned()
        }
        None => format!(
            "The backup is what was backed up as far as its sidecars tell: of {} they tell nothing.\n",
            text::size(checked.unproven_bytes)
        ),
    }
}

fn as_json(args: &Args, disk: &DiskTarget, point: PointId, found: &Compared) -> Value {
    let ranges: Vec<_> = found.ranges.iter().map(|range| json!([range.start, range.end])).collect();
    json!({
        "schema": "vmstream/compare/1",
        "dir": args.dir.display().to_string(),
        "disk": disk.to_string(),
        "point": point.to_string(),
        "taken": found.taken.to_string(),
        "image": args.image.display().to_string(),
        "same": found.is_same(),
        "disk_bytes": found.size,
        "image_bytes": found.image_size,
        "rest_bytes": found.rest_bytes(),
        "different_bytes": found.different_bytes,
        "ranges": ranges,
        "all_ranges": found.ranges.len() < MAX_RANGES,
        "proven_bytes": found.checked.as_ref().map(|checked| checked.proven_bytes),
        "unproven_bytes": found.checked.as_ref().map(|checked| checked.unproven_bytes),
        "unused_sidecars": found.unused_sidecars.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "wrong_bytes": found.checked.as_ref().map(Checked::wrong_bytes),
    })
}
