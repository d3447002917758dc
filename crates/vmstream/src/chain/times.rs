//! The times of a chain's streams. Old readers go by their order; nothing else tells by them.
//!
//! A copy of a tree that does not keep times loses that order. No content is touched by putting it right.

use super::ident::DiskTarget;
use super::point::{PointDisk, StreamEntry};
use super::problem::SetProblem;
use super::set::BackupSet;
use std::fs::{File, FileTimes};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: Duration = Duration::from_secs(1);

/// A stream's time that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("Cannot set the time of {}", path.display())]
pub struct SetTimeError {
    /// The stream.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Old readers sort a disk's streams by modification time, in whole seconds on most copies.
pub(super) fn check(set: &mut BackupSet, disk: &DiskTarget) {
    let streams = streams(set, disk);
    let pairs = streams.iter().zip(streams.iter().skip(1));
    let lost = pairs.filter(|(before, after)| whole(before.modified) >= whole(after.modified));
    let problem = |(before, after): (&&StreamEntry, &&StreamEntry)| SetProblem::TimeOrder {
        earlier: before.path.clone(),
        later: after.path.clone(),
    };
    let found: Vec<_> = lost.map(problem).collect();
    set.problems.extend(found);
}

/// Sets times so that each stream is newer than the one before it. The newest of a disk keeps its own, so that what is
/// written next is newer than all. Returns how many were set.
pub fn put_in_order(set: &BackupSet) -> Result<usize, SetTimeError> {
    let mut changed = 0;
    for disk in set.disks() {
        let mut after: Option<SystemTime> = None;
        for stream in streams(set, &disk).into_iter().rev() {
            let latest = after.map(|after| whole(after) - SECOND);
            let time = match latest {
                Some(latest) if whole(stream.modified) > latest => latest,
                _ => stream.modified,
            };
            if time != stream.modified {
                let set = || {
                    let file = File::open(&stream.path)?;
                    file.set_times(FileTimes::new().set_modified(time))?;
                    file.sync_all()
                };
                set().map_err(|source| SetTimeError { path: stream.path.clone(), source })?;
                changed += 1;
            }
            after = Some(time);
        }
    }
    Ok(changed)
}

/// The streams of a disk, by their points.
fn streams<'a>(set: &'a BackupSet, disk: &DiskTarget) -> Vec<&'a StreamEntry> {
    let of = |content: Option<&'a PointDisk>| match content {
        Some(PointDisk::Stream(entry)) => Some(&**entry),
        _ => None,
    };
    set.points.iter().filter_map(|point| of(point.disks.get(disk))).collect()
}

fn whole(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
