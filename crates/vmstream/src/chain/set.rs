//! A backup set: one folder as a list of restore points.

use super::diffs;
use super::ident::{CheckpointName, DiskTarget, PointId};
use super::point::{DiskContent, Point, PointDisk, StreamEntry};
use super::problem::{SetProblem, Severity};
use super::set_error::SetError;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One folder of backups of one domain: a chain with its differences, or a copy.
#[derive(Debug)]
pub struct BackupSet {
    /// The folder.
    pub dir: PathBuf,
    /// The domain, where a checkpoint list tells it.
    pub domain: Option<String>,
    /// Oldest first. A difference stands behind the point it builds on.
    pub points: Vec<Point>,
    /// What is wrong with the folder. Content of streams is not looked at here.
    pub problems: Vec<SetProblem>,
    pub(super) missing: BTreeSet<(PointId, DiskTarget)>,
}

impl BackupSet {
    /// Every disk that some point has, or had to have.
    pub fn disks(&self) -> BTreeSet<DiskTarget> {
        let stored = self.points.iter().flat_map(|point| point.disks.keys());
        stored.chain(self.missing.iter().map(|(_, disk)| disk)).cloned().collect()
    }

    /// The newest restore point: the last checkpoint, or a difference on top of it. `None` when there is none.
    pub fn newest(&self) -> Option<&Point> {
        self.points.last()
    }

    /// A point by its name.
    ///
    /// # Errors
    /// [`SetError::NoPoint`] with the names there are.
    pub fn point(&self, id: PointId) -> Result<&Point, SetError> {
        self.points.iter().find(|point| point.id == id).ok_or_else(|| SetError::NoPoint {
            dir: self.dir.clone(),
            point: id,
            known: self.points.iter().map(|point| point.id).collect(),
        })
    }

    /// True when the point has lost what it had of the disk.
    pub fn lacks(&self, point: PointId, disk: &DiskTarget) -> bool {
        self.missing.contains(&(point, disk.clone()))
    }

    /// The difference that files beside its streams are of, by the second in their names: it is that in which the run ended.
    pub(crate) fn difference_at(&self, seconds: u64) -> Option<&Point> {
        self.points.iter().find(|point| diffs::is_of(point, seconds))
    }

    /// Why a stream or image is not what belongs in its place, though it may be whole: what it says of itself, or what the
    /// sidecars say of each other.
    pub(crate) fn misplaced(&self, path: &Path) -> Option<&SetProblem> {
        self.against(path).find(|problem| problem.severity() == Severity::Damage)
    }

    /// Why nobody can tell whether a stream or image is what belongs in its place.
    pub(crate) fn doubtful(&self, path: &Path) -> Option<&SetProblem> {
        self.against(path).find(|problem| problem.severity() == Severity::Doubt)
    }

    /// What speaks against a stream or image.
    pub(crate) fn against(&self, path: &Path) -> impl Iterator<Item = &SetProblem> {
        self.problems.iter().filter(move |problem| problem.blamed() == Some(path))
    }

    /// What makes up `disk` at a point.
    ///
    /// Streams come oldest first. Their meta text may still be unreadable: reading them will say so.
    ///
    /// # Errors
    /// [`SetError::Lost`] when a stream it needs is missing, [`SetError::NoDisk`] when the disk was not there.
    pub fn content(&self, disk: &DiskTarget, id: PointId) -> Result<DiskContent<'_>, SetError> {
        let point = self.point(id)?;
        let needed = self.needed(point);
        if let Some(lost) = needed.iter().find(|part| self.missing.contains(&(part.id, disk.clone()))) {
            return Err(SetError::Lost { disk: disk.clone(), point: id, lost: lost.id });
        }
        let mut streams: Vec<&StreamEntry> = Vec::new();
        for part in &needed {
            match part.disks.get(disk) {
                Some(PointDisk::Raw(image)) => return Ok(DiskContent::Raw { image, taken: part.id }),
                Some(PointDisk::Stream(entry)) => streams.push(entry),
                None => {}
            }
        }
        let there =
            point.disks.contains_key(disk) && !streams.last().is_some_and(|last| last.is_placeholder());
        if there {
            return Ok(DiskContent::Streams(streams));
        }
        Err(SetError::NoDisk { disk: disk.clone(), point: id, known: self.disks_at(point) })
    }

    /// The points of the streams that [`BackupSet::content`] gives, in their order.
    pub(crate) fn stream_points(&self, disk: &DiskTarget, id: PointId) -> Result<Vec<PointId>, SetError> {
        let is_stream = |part: &&Point| matches!(part.disks.get(disk), Some(PointDisk::Stream(_)));
        Ok(self.needed(self.point(id)?).into_iter().filter(is_stream).map(|part| part.id).collect())
    }

    /// The disks that a point can give back, including raw images taken before it.
    pub fn disks_at(&self, point: &Point) -> Vec<DiskTarget> {
        let mut disks: BTreeSet<DiskTarget> = point
            .disks
            .iter()
            .filter(|(_, content)| !matches!(content, PointDisk::Stream(entry) if entry.is_placeholder()))
            .map(|(disk, _)| disk.clone())
            .collect();
        for part in self.needed(point) {
            let raw = part.disks.iter().filter(|(_, content)| matches!(content, PointDisk::Raw(_)));
            disks.extend(raw.map(|(disk, _)| disk.clone()));
        }
        disks.extend(self.missing.iter().filter(|(id, _)| *id == point.id).map(|(_, disk)| disk.clone()));
        disks.into_iter().collect()
    }

    /// The points whose streams make up `point`, oldest first, itself last.
    pub fn needed<'a>(&'a self, point: &'a Point) -> Vec<&'a Point> {
        let base = match point.id {
            PointId::Copy => None,
            PointId::Checkpoint(name) => Some(name),
            PointId::Diff(_) => point.parent,
        };
        let upto = |name: &CheckpointName| base.is_some_and(|base| *name <= base);
        let mut needed: Vec<&Point> = self
            .points
            .iter()
            .filter(|part| matches!(&part.id, PointId::Checkpoint(name) if upto(name)))
            .collect();
        if !matches!(point.id, PointId::Checkpoint(_)) {
            needed.push(point);
        }
        needed
    }
}
