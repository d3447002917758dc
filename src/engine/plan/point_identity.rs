//! Which point is being made: its name, what it follows, the time and the names of its files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vmstream::chain::{BackupSet, CheckpointName, PointDisk, PointId, StreamKind, StreamSuffix};

use super::role::Role;
use vmplan::Decision;

/// Which point is being made.
pub(crate) struct PointIdentity {
    /// That of a checkpoint, or a copy.
    pub(crate) id: PointId,
    /// `None` for a full and for a copy.
    pub(crate) parent: Option<CheckpointName>,
    /// Modification time of its files.
    pub(crate) time: SystemTime,
    /// How its streams' names end, and those of the chain's other points.
    pub(crate) suffix: StreamSuffix,
}

impl PointIdentity {
    /// The point that a plan makes after the points in `set`.
    pub(crate) fn next(
        decision: &Decision,
        set: Option<&BackupSet>,
        now: SystemTime,
        suffix: StreamSuffix,
    ) -> Self {
        let (id, parent, time_after) = match *decision {
            Decision::Incremental { parent, name } => {
                (PointId::Checkpoint(name), Some(parent), set.and_then(newest_time))
            }
            Decision::Copy { .. } => (PointId::Copy, None, None),
            _ => (PointId::Checkpoint(CheckpointName::FIRST), None, None),
        };
        Self { id, parent, time: point_time(now, time_after), suffix }
    }

    /// The checkpoint that marks it. `None` for a copy.
    pub(crate) fn checkpoint(&self) -> Option<CheckpointName> {
        match self.id {
            PointId::Checkpoint(name) => Some(name),
            PointId::Copy | PointId::Diff(_) => None,
        }
    }

    /// How many points the chain has with it.
    pub(crate) fn count(&self) -> usize {
        self.checkpoint().map_or(1, |name| name.number() as usize + 1)
    }

    /// How the name of a disk's file ends.
    pub(crate) fn suffix_of(&self, role: Role) -> StreamSuffix {
        match role {
            Role::RawImage => StreamSuffix::Data,
            Role::Stream { .. } => self.suffix,
        }
    }

    /// What a disk's file is called. In a chain every point but the first is called an increment, also when it holds the
    /// whole disk because the disk was added.
    pub(crate) fn stream_kind(&self, role: Role) -> StreamKind {
        match (role, self.checkpoint()) {
            (Role::RawImage, _) | (_, None) => StreamKind::Copy,
            (Role::Stream { .. }, Some(_)) if self.parent.is_none() => StreamKind::Full,
            (Role::Stream { .. }, Some(name)) => StreamKind::Inc(name),
        }
    }
}

/// The newest modification time of any stream of a chain.
fn newest_time(set: &BackupSet) -> Option<SystemTime> {
    set.points.iter().flat_map(|p| p.disks.values()).map(PointDisk::modified).max()
}

/// A time for the files of a point: whole seconds, later than anything in the chain, because old readers order the
/// chain by it, and archives and object stores keep no fractions.
fn point_time(now: SystemTime, newest: Option<SystemTime>) -> SystemTime {
    let seconds = |t: SystemTime| t.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let after = newest.map_or(0, |t| seconds(t) + 1);
    UNIX_EPOCH + Duration::from_secs(seconds(now).max(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis)
    }

    #[test]
    fn times_rise_by_whole_seconds_whatever_the_clock_does() {
        let cases = [
            ("first", at(100, 700), None, 100),
            ("later", at(200, 1), Some(at(100, 0)), 200),
            ("same second", at(100, 900), Some(at(100, 0)), 101),
            ("old tool's fractions", at(100, 900), Some(at(100, 300)), 101),
            ("clock went back", at(50, 0), Some(at(100, 0)), 101),
        ];
        for (name, now, newest, want) in cases {
            assert_eq!(point_time(now, newest), at(want, 0), "{name}");
        }
    }
}
