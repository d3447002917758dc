//! The restore points of a VM: each set with its points, the newest period first.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use vmstore::remove::Folder;
use vmstream::causes::with_causes;
use vmstream::chain::{BackupSet, DiskTarget, Point, PointDisk, PointId, SetError, Severity};

use super::files::{SetFiles, SetKind};
use crate::resolve::{FoundSet, Sets};

/// The restore points of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PointsListing {
    /// Each active set with the archived ones beside it behind it.
    pub sets: Vec<SetListing>,
    /// What could not be read. What it holds is unknown.
    pub unreadable: Vec<String>,
}

/// A set with its points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetListing {
    pub dir: PathBuf,
    /// The folder in the VM's folder that it is, or in whose archives it lies; `None` for the VM's folder.
    pub period: Option<String>,
    pub archived: bool,
    pub kind: SetKind,
    /// As `du -s` counts; `None` where that cannot be read.
    pub used_bytes: Option<u64>,
    /// Every disk that some point has.
    pub disks: Vec<String>,
    /// Oldest first.
    pub points: Vec<PointListing>,
    /// What is damaged in it, as far as names and ends of files tell.
    pub damage: Vec<String>,
}

/// A restore point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PointListing {
    /// As `--restore-point` takes it.
    pub point: String,
    pub kind: PointKind,
    /// Local time: as the data says, else as the times of its files do.
    pub taken: String,
    pub disks: Vec<String>,
}

/// What a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PointKind {
    /// With others that build on it.
    FullBase,
    FullOnly,
    Incremental,
    Differential,
    Copy,
    /// A copy of the definition alone.
    Definition,
}

/// Lists the points of a VM's sets.
pub fn points(sets: &Sets) -> PointsListing {
    let mut listing = PointsListing::default();
    for found in in_order(&sets.sets) {
        match BackupSet::open(&found.dir) {
            Ok(set) => listing.sets.push(of_set(found, &set)),
            Err(SetError::NotASet { .. }) => {}
            Err(error) => listing.unreadable.push(with_causes(&error)),
        }
    }
    listing
}

/// The newest period first, each before its archives. The VM's own folder comes first where it is a set, else its archives last.
fn in_order(sets: &[FoundSet]) -> Vec<&FoundSet> {
    let mut ordered: Vec<&FoundSet> = sets.iter().collect();
    // The walk gives archives before what they lie beside, and folders by name.
    ordered.sort_by(|one, other| {
        let own = |set: &FoundSet| set.inner.is_none() && !set.archived;
        (own(other), &other.inner, one.archived, &one.dir).cmp(&(
            own(one),
            &one.inner,
            other.archived,
            &other.dir,
        ))
    });
    ordered
}

fn of_set(found: &FoundSet, set: &BackupSet) -> SetListing {
    let damage = set.problems.iter().filter(|problem| problem.severity() == Severity::Damage);
    SetListing {
        dir: found.dir.clone(),
        period: found.inner.clone(),
        archived: found.archived,
        kind: SetFiles::of(&found.dir).kind(),
        used_bytes: used_bytes(&found.dir),
        disks: set.disks().iter().map(DiskTarget::to_string).collect(),
        points: set.points.iter().map(|point| of_point(set, point)).collect(),
        damage: damage.map(ToString::to_string).collect(),
    }
}

fn used_bytes(dir: &Path) -> Option<u64> {
    Folder::open(dir).ok()?.used_bytes().ok()
}

fn of_point(set: &BackupSet, point: &Point) -> PointListing {
    let is_only = set.points.len() == 1;
    let (name, kind) = match point.id {
        _ if point.definition.is_some() => ("0".to_owned(), PointKind::Definition),
        PointId::Copy if is_only => ("0".to_owned(), PointKind::Copy),
        PointId::Copy => ("copy".to_owned(), PointKind::Copy),
        PointId::Diff(_) => (point.id.to_string(), PointKind::Differential),
        PointId::Checkpoint(name) => {
            let kind = match (point.parent, is_only) {
                (Some(_), _) => PointKind::Incremental,
                (None, true) => PointKind::FullOnly,
                (None, false) => PointKind::FullBase,
            };
            (name.number().to_string(), kind)
        }
    };
    let disks = set.disks_at(point).iter().map(DiskTarget::to_string).collect();
    PointListing { point: name, kind, taken: taken(point), disks }
}

/// When it was taken, without a zone: `2026-11-22 20:03:59`.
fn taken(point: &Point) -> String {
    if let Some(taken) = point.taken() {
        return taken.replace('T', " ");
    }
    let written = point.vmconfig.as_deref().and_then(|path| path.metadata().ok()?.modified().ok());
    let modified = written.or_else(|| point.disks.values().map(PointDisk::modified).max());
    let time = modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default();
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
