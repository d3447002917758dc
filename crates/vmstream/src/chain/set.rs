//! A backup set: one folder as a list of restore points.

use super::cpt;
use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::StreamKind;
use super::point::{DiskContent, Point, PointDisk, StreamEntry};
use super::problem::SetProblem;
use super::scan::Scan;
use super::{check, diffs, exchanged};
use crate::text;
use std::collections::{BTreeMap, BTreeSet};
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

/// Why there is no set to work with, or no such disk in it.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The folder cannot be read.
    #[error("Cannot read the folder {}", dir.display())]
    Read {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No stream, no checkpoint list.
    #[error("{} holds no backup set{}", dir.display(), hint(sets))]
    NotASet {
        /// The folder.
        dir: PathBuf,
        /// Folders inside that do hold one.
        sets: Vec<PathBuf>,
    },
    /// No such point.
    #[error("{} has no restore point {point}; it has {}", dir.display(), list(known))]
    NoPoint {
        /// The folder.
        dir: PathBuf,
        /// What was asked for.
        point: PointId,
        /// What there is.
        known: Vec<PointId>,
    },
    /// No such disk at that point.
    #[error("Disk {disk} is not part of {point}; it has {}", list(known))]
    NoDisk {
        /// What was asked for.
        disk: DiskTarget,
        /// Where.
        point: PointId,
        /// What there is.
        known: Vec<DiskTarget>,
    },
    /// The disk cannot be put together at that point.
    #[error("Disk {disk} at {point} needs its stream of {lost}, which is missing")]
    Lost {
        /// The disk.
        disk: DiskTarget,
        /// What was asked for.
        point: PointId,
        /// Where a stream is missing.
        lost: PointId,
    },
}

fn hint(sets: &[PathBuf]) -> String {
    match sets {
        [] => String::new(),
        [one] => format!("; there is one in {}", one.display()),
        many => format!("; there are {} below it, name one: {}", many.len(), list_paths(many)),
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    list(&paths.iter().map(|path| path.display()).collect::<Vec<_>>())
}

fn list<T: ToString>(items: &[T]) -> String {
    const SHOWN: usize = 12;
    if items.is_empty() { "none".to_owned() } else { text::few(items, SHOWN) }
}

impl BackupSet {
    /// Reads a folder: names, checkpoint list, and the meta text of every stream.
    ///
    /// Damaged files do not make it fail; they are in the set as such.
    ///
    /// # Errors
    /// [`SetError::Read`] when the folder cannot be listed, [`SetError::NotASet`] when nothing in it is a backup.
    pub fn open(dir: &Path) -> Result<Self, SetError> {
        let failed = |source| SetError::Read { dir: dir.to_owned(), source };
        let mut scan = Scan::of(dir).map_err(failed)?;
        let lone_images = || scan.lone_sidecars.iter().any(|path| check::lone_image(path).is_some());
        if scan.streams.is_empty() && scan.lists.is_empty() && scan.partials.is_empty() && !lone_images() {
            let sets = scan.folders.iter().flat_map(|folder| sets_below(folder)).collect();
            return Err(SetError::NotASet { dir: dir.to_owned(), sets });
        }
        let mut problems: Vec<_> = scan.partials.drain(..).map(|path| SetProblem::Partial { path }).collect();
        let lone = std::mem::take(&mut scan.lone_sidecars);
        let (domain, names) = checkpoints(&scan, &mut problems);
        let mut points = chain_points(&mut scan, &names);
        problems.extend(drop_unfinished(&mut scan, &mut points));
        take_raw_copies(&mut scan, &mut points);
        diffs::insert(&mut scan, &mut points);
        problems.extend(take_copy(&mut scan, &mut points));
        problems.extend(
            std::mem::take(&mut scan.streams)
                .into_values()
                .map(|left| SetProblem::Leftover { path: left.path().to_owned() }),
        );
        let twice = scan.second.drain(..);
        problems.extend(twice.map(|second| SetProblem::SecondStream { path: second.path().to_owned() }));
        let later: Vec<u64> = points.iter().filter_map(|point| diffs::seconds(point.id)).collect();
        for point in &mut points {
            point.vmconfig = match diffs::seconds(point.id) {
                Some(begun) => diffs::vmconfig(&scan, begun, &later),
                None => scan.vmconfigs.get(&point.id).cloned(),
            };
        }
        problems.extend(diffs::drop_unfinished(&scan, &mut points));
        let mut set = Self { dir: dir.to_owned(), domain, points, problems, missing: BTreeSet::new() };
        check::sidecars_alone(&mut set, lone);
        check::check(&mut set, &scan);
        exchanged::check(&mut set);
        Ok(set)
    }

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
        self.problems.iter().find(|problem| match problem {
            SetProblem::MetaMismatch { path: of, .. }
            | SetProblem::Exchanged { path: of, .. }
            | SetProblem::Unjoined { path: of, .. } => of == path,
            _ => false,
        })
    }

    /// Why nobody can tell whether a stream or image is what belongs in its place.
    pub(crate) fn doubtful(&self, path: &Path) -> Option<&SetProblem> {
        self.problems
            .iter()
            .find(|problem| matches!(problem, SetProblem::Doubtful { path: of } if of == path))
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

/// Folders at or below `folder`, one level deep, that hold streams.
fn sets_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(scan) = Scan::of(folder) else { return Vec::new() };
    if !scan.streams.is_empty() || !scan.lists.is_empty() {
        return vec![folder.to_owned()];
    }
    let holds = |inner: &PathBuf| {
        Scan::of(inner).is_ok_and(|scan| !scan.streams.is_empty() || !scan.lists.is_empty())
    };
    scan.folders.into_iter().filter(holds).collect()
}

/// The chain's checkpoints: from the list, or from the streams' names where that cannot be used.
fn checkpoints(scan: &Scan, problems: &mut Vec<SetProblem>) -> (Option<String>, Vec<CheckpointName>) {
    if scan.lists.len() > 1 {
        problems.push(SetProblem::ManyLists { paths: scan.lists.clone() });
    }
    let from_streams = || {
        let names = scan.streams.keys().filter_map(|(kind, _)| match kind {
            StreamKind::Full => Some(CheckpointName::FIRST),
            StreamKind::Inc(name) => Some(*name),
            StreamKind::Diff(_) | StreamKind::Copy => None,
        });
        names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let Some(path) = scan.lists.first() else {
        if scan.set_waits() {
            return (None, Vec::new());
        }
        let names = from_streams();
        if !names.is_empty() {
            problems.push(SetProblem::ListMissing);
        }
        return (None, names);
    };
    let domain = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    match cpt::read(path) {
        Ok(names) => {
            let ended = names.last().copied();
            let next = ended.map_or(Some(CheckpointName::FIRST), CheckpointName::next);
            let all = from_streams();
            match all.last().copied().filter(|newest| Some(*newest) > next) {
                Some(newest) => {
                    problems.push(SetProblem::ListShort { path: path.clone(), ended, newest });
                    (domain, all)
                }
                None => (domain, names),
            }
        }
        Err(source) => {
            problems.push(SetProblem::ListDamaged { path: path.clone(), source });
            (domain, from_streams())
        }
    }
}

/// Takes the streams of full and increments out of the scan.
fn chain_points(scan: &mut Scan, names: &[CheckpointName]) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(names.len());
    for (place, &name) in names.iter().enumerate() {
        let mut disks = take_kind(scan, StreamKind::Inc(name));
        if place == 0 {
            disks.extend(take_kind(scan, StreamKind::Full));
        }
        let parent = place.checked_sub(1).map(|before| names[before]);
        points.push(Point { id: PointId::Checkpoint(name), parent, disks, vmconfig: None });
    }
    points
}

pub(super) fn take_kind(scan: &mut Scan, kind: StreamKind) -> BTreeMap<DiskTarget, PointDisk> {
    let found: Vec<_> = scan.streams.keys().filter(|(other, _)| *other == kind).cloned().collect();
    found.into_iter().filter_map(|key| Some((key.1.clone(), scan.streams.remove(&key)?))).collect()
}

/// A raw disk's copy in a chain was taken with the full.
fn take_raw_copies(scan: &mut Scan, points: &mut [Point]) {
    let Some(first) = points.first_mut() else { return };
    for (disk, content) in take_kind(scan, StreamKind::Copy) {
        if matches!(content, PointDisk::Raw(_)) && !first.disks.contains_key(&disk) {
            first.disks.insert(disk, content);
        } else {
            scan.streams.insert((StreamKind::Copy, disk), content);
        }
    }
}

/// A copy is there once its domain XML is; one without has lost it, unless that still waits or the copy is being written.
fn take_copy(scan: &mut Scan, points: &mut Vec<Point>) -> Option<SetProblem> {
    let committed = scan.vmconfigs.contains_key(&PointId::Copy);
    if scan.set_waits() && !committed {
        return None;
    }
    let disks = take_kind(scan, StreamKind::Copy);
    if disks.is_empty() {
        return None;
    }
    if !committed && scan.is_writing(|kind| kind == StreamKind::Copy) {
        return Some(SetProblem::Unfinished { point: PointId::Copy });
    }
    points.push(Point { id: PointId::Copy, parent: None, disks, vmconfig: None });
    None
}

/// Takes away the newest point of the list while another program writes it: virtnbdbackup extends the list first, then
/// writes the streams, and the domain XML last.
fn drop_unfinished(scan: &mut Scan, points: &mut Vec<Point>) -> Option<SetProblem> {
    let (newest, is_first) = (points.last()?.id, points.len() == 1);
    let of_newest = |kind| match kind {
        StreamKind::Inc(name) => newest == PointId::Checkpoint(name),
        StreamKind::Full | StreamKind::Copy => is_first,
        StreamKind::Diff(_) => false,
    };
    if scan.vmconfigs.contains_key(&newest) || !scan.is_writing(of_newest) {
        return None;
    }
    points.pop();
    if is_first {
        take_kind(scan, StreamKind::Copy);
    }
    Some(SetProblem::Unfinished { point: newest })
}
