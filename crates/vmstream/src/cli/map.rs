//! `vmstream map`: shows which restore point supplies each part of a disk.

use super::document::Node;
use super::drawing::{self, Drawing};
use super::exit::Exit;
use super::failure::Failure;
use super::output::{Out, warn};
use super::progress::Bar;
use super::until::{self, Until};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, DiskTarget, PointId};
use vmstream::restore::picture::{Cell, Picture, Row, each_supply, picture};
use vmstream::restore::{Existing, ExtractError, Partial, check_streams};
use vmstream::text;
use vmstream::verify::{Depth, Watch, total_bytes};

/// Parts of the disk in the picture on a terminal: with the longest names, lines have 80 characters.
const TEXT_PARTS: usize = 36;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream map /backup/vm/202611
  vmstream map /backup/vm/202611 --svg map.svg
  vmstream map /backup/vm/202611 --until 2 --json | jq '.disks[0].ranges'

Exit codes: 0 done, 1 a stream is damaged, 2 cannot tell or wrong usage")]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Disk target, such as vda [default: all]
    #[arg(long)]
    disk: Option<DiskTarget>,
    #[arg(long, value_name = "POINT", help = until::HELP)]
    until: Option<Until>,
    /// List every range with the point that supplies it
    #[arg(long)]
    ranges: bool,
    /// Draw the picture into a new file instead; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ranges", "json"])]
    svg: Option<PathBuf>,
    /// Replace the file of --svg if it exists
    #[arg(long, requires = "svg")]
    force: bool,
    /// Map also streams that belong elsewhere, and do not read those that only a checksum file proves
    #[arg(long)]
    no_check: bool,
    /// Print JSON, with every range
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let (set, point) = super::open_at(&args.dir, args.until.as_ref())?;
    super::say_problems(&set);
    let disks = match &args.disk {
        Some(disk) => vec![disk.clone()],
        None => {
            let point = set.point(point).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
            let disks = set.disks_at(point);
            if disks.is_empty() {
                return Err(super::without_disks(point));
            }
            disks
        }
    };
    if !args.no_check {
        check(&set, &disks, point).map_err(|error| failure(&error))?;
    }
    let parts = if args.svg.is_some() { drawing::PARTS } else { TEXT_PARTS };
    // All of them first: a stream that cannot be walked is known before anything is printed.
    let drawn = disks.into_iter().map(|disk| {
        let found = picture(&set, &disk, point, parts).map_err(|error| failure(&error))?;
        Ok((disk, found))
    });
    let drawn = drawn.collect::<Result<Vec<_>, Failure>>()?;
    match &args.svg {
        Some(path) => draw(path, args.force, &set, point, drawn),
        None if args.json => as_json(&set, point, &drawn),
        None => as_text(args, &set, point, &drawn),
    }
}

fn failure(error: &ExtractError) -> Failure {
    super::extract::failure(error, "--no-check draws it all the same")
}

/// A stream may be of another backup than its place. One without a usable sidecar may also be another than was written:
/// only all of its bytes tell.
fn check(set: &BackupSet, disks: &[DiskTarget], point: PointId) -> Result<(), ExtractError> {
    let bar = Bar::new(total_bytes(set, Depth::Content));
    let checked = disks.iter().try_for_each(|disk| {
        let unused = check_streams(set, disk, point, &|bytes| bar.read(bytes))?;
        unused.iter().for_each(warn);
        Ok(())
    });
    bar.clear();
    checked
}

/// The picture as a file, or on standard output.
fn draw(
    path: &Path,
    replace: bool,
    set: &BackupSet,
    point: PointId,
    drawn: Vec<(DiskTarget, Picture)>,
) -> Result<Exit, Failure> {
    let taken = |row: &Row| set.point(row.point).ok()?.taken().map(str::to_owned);
    let drawing = |(disk, picture): (DiskTarget, Picture)| Drawing {
        taken: picture.rows.iter().map(taken).collect(),
        disk,
        picture,
    };
    let domain = set.domain.as_deref().map_or(String::new(), |domain| format!("{domain}, "));
    let title = format!("{domain}{} at {point}", set.dir.display());
    let svg = drawing::svg(&title, &drawn.into_iter().map(drawing).collect::<Vec<_>>());
    if path.as_os_str() == "-" {
        let mut out = Out::json();
        out.say(&svg);
        return Ok(out.finish());
    }
    let existing = if replace { Existing::Replace } else { Existing::Keep };
    let refused = |error: vmstream::restore::NewFileError| Failure::of(&error, Exit::CannotTell);
    let new = Partial::create(path, existing).map_err(refused)?;
    new.file().write_all(svg.as_bytes()).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
    // A drawing is no secret, other than a disk.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let _ = new.file().set_permissions(mode);
    new.publish().map_err(refused)?;
    Ok(Exit::Good)
}

fn as_text(
    args: &Args,
    set: &BackupSet,
    point: PointId,
    drawn: &[(DiskTarget, Picture)],
) -> Result<Exit, Failure> {
    let mut out = Out::text();
    for (disk, found) in drawn {
        out.say(&disk_text(disk, point, found));
        out.say("\n");
        if args.ranges {
            let tell = |range: std::ops::Range<u64>, by: Option<PointId>| {
                let by = by.map_or("zero".to_owned(), |by| by.to_string());
                out.say(&format!("  {:>16} {:>16}  {by}\n", range.start, range.end));
            };
            each_supply(set, disk, point, tell).map_err(|error| failure(&error))?;
            out.say("\n");
        }
    }
    out.say("  # taken from here   o newer points have it again   0 zeros   . nothing\n");
    Ok(out.finish())
}

fn disk_text(disk: &DiskTarget, point: PointId, found: &Picture) -> String {
    let mut out = format!(
        "{disk} at {point}: {}, {} of it zero because no stream has it\n\n",
        text::size(found.size),
        text::size(found.unset_bytes)
    );
    let row = |row: &Row| {
        let cells: String = row
            .cells
            .iter()
            .map(|cell| match cell {
                Cell::Nothing => '.',
                Cell::Zeros => '0',
                Cell::Superseded => 'o',
                Cell::Used => '#',
            })
            .collect();
        let used = format!("{} of {}", text::size(row.used_bytes), text::size(row.data_bytes));
        vec![row.point.to_string(), cells, used]
    };
    out.push_str(&text::table(&found.rows.iter().map(row).collect::<Vec<_>>()));
    out
}

fn as_json(set: &BackupSet, point: PointId, drawn: &[(DiskTarget, Picture)]) -> Result<Exit, Failure> {
    let mut out = Out::json();
    let mut document = Node::document(&mut out, "vmstream/map/1");
    document.member("dir", &set.dir.display().to_string().into());
    document.member("domain", &set.domain.as_deref().into());
    document.member("point", &point.to_string().into());
    let (mut disks, mut broken) = (document.list("disks"), None);
    for (disk, found) in drawn {
        let mut one = disks.object();
        one.members(disk_json(disk, found));
        let mut ranges = one.list("ranges");
        let tell = |range: std::ops::Range<u64>, by: Option<PointId>| {
            ranges.short_item(&json!([range.start, range.end, by.map(|by| by.to_string())]));
        };
        let told = each_supply(set, disk, point, tell);
        ranges.close();
        one.close();
        if let Err(error) = told {
            broken = Some(failure(&error));
            break;
        }
    }
    disks.close();
    // The set changed under our hands: what is printed is no whole answer, and says so.
    document.member("error", &broken.as_ref().map_or(Value::Null, Failure::json));
    document.close();
    let written = out.finish();
    broken.map_or(Ok(written), |broken| Err(broken.told()))
}

fn disk_json(disk: &DiskTarget, found: &Picture) -> Value {
    let stream = |row: &Row| {
        json!({
            "point": row.point.to_string(),
            "data_bytes": row.data_bytes,
            "used_bytes": row.used_bytes,
            "zero_bytes": row.zero_bytes,
        })
    };
    json!({
        "disk": disk.to_string(),
        "disk_bytes": found.size,
        "unset_bytes": found.unset_bytes,
        "streams": found.rows.iter().map(stream).collect::<Vec<_>>(),
    })
}
