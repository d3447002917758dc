//! A copy that the Bash program or virtnbdbackup made: what there is to tell whether it is of the disks as they are.
//!
//! Must not live here: what tells it of copies of ours (`image_state`), what follows from it (`vmplan`).

use std::fs;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use vmstream::chain::{BackupSet, Point, PointDisk, PointId};

use super::image_state::{self, Now, STATE_FILE};
use super::still::Asked;
use crate::engine::cancel::Cancel;
use crate::engine::image::readable_disk::ReadableDisk;
use vmplan::{CopiedDisk, DiskSize, FileTimes, UnnotedCopy};
use vmprogram::{Look, Used};
use vmstore::presence::there;

/// The copy that is the newest point of a set, if it has no note.
///
/// `shown_xml` is the definition as whoever asks libvirt without further ado is shown it.
pub(super) fn of(
    set: Option<&BackupSet>,
    now: &Now<'_>,
    shown_xml: &str,
    asked: &[Asked],
    cancel: &Cancel,
) -> Option<UnnotedCopy> {
    let set = set?;
    let newest = set.newest().filter(|newest| newest.id == PointId::Copy)?;
    // One that cannot be looked for may say that something changed.
    if !matches!(there(&set.dir.join(STATE_FILE)), Ok(false)) {
        return None;
    }
    let kept = newest.vmconfig.as_ref().and_then(|path| fs::read_to_string(path).ok());
    let untold = asked.iter().find_map(|asked| match &asked.used {
        Used::Nobody => None,
        Used::By(by) => Some(format!("{} is used by {by}", asked.image.display())),
        Used::Unknown(why) => Some(format!("{}: {why}", asked.image.display())),
    });
    let wanted = || image_state::wanted(now.disks, now.raw_disks);
    let size = |disk: &ReadableDisk| DiskSize { target: disk.target.clone(), size: disk.info.virtual_size };
    Some(UnnotedCopy {
        same_definition: kept.is_some_and(|kept| kept.trim() == shown_xml.trim()),
        disks: wanted().map(size).collect(),
        copied: copied(newest)?,
        files: files(now.disks, cancel),
        untold,
    })
}

/// `None` when the time of a file is beyond the calendar.
fn copied(point: &Point) -> Option<Vec<CopiedDisk>> {
    let copied = point.disks.iter().map(|(target, disk)| {
        let (size, began) = match disk {
            PointDisk::Stream(entry) => {
                let meta = entry.meta.as_ref().ok();
                (meta.map_or(0, |meta| meta.virtual_size), meta.and_then(|meta| instant(&meta.date)))
            }
            PointDisk::Raw(image) => (image.len, None),
        };
        let disk_size = DiskSize { target: target.as_str().to_owned(), size };
        Some(CopiedDisk { disk: disk_size, began, written: Timestamp::try_from(disk.modified()).ok()? })
    });
    copied.collect()
}

/// A local time, and of the two that a clock shows when it is set back, the first.
fn instant(date: &str) -> Option<Timestamp> {
    let date: DateTime = date.parse().ok()?;
    TimeZone::system().to_ambiguous_timestamp(date).earlier().ok()
}

fn files(disks: &[ReadableDisk], cancel: &Cancel) -> Result<Vec<FileTimes>, String> {
    let looks = image_state::looks_at(disks, cancel).map_err(|error| error.to_string())?;
    let time = |seconds, nanos: i64| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or_default());
    let times = |(path, look): (_, Look)| {
        Ok(FileTimes {
            path,
            is_regular: look.is_regular,
            modified: time(look.modified_seconds, look.modified_nanos)?,
            changed: time(look.changed_seconds, look.changed_nanos)?,
        })
    };
    let times: Result<_, jiff::Error> = looks.into_iter().map(times).collect();
    times.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_a_stream_is_an_instant_and_an_earlier_rather_than_a_later_one() {
        let here = TimeZone::system();
        let noon = instant("2026-11-22T12:00:00.768021").unwrap();
        assert_eq!(noon.to_zoned(here).datetime().to_string(), "2026-11-22T12:00:00.768021");
        for nothing in ["", "yesterday", "2026-11-22"] {
            assert!(instant(nothing).is_none_or(|at| at < noon), "{nothing}");
        }
    }
}
