//! A folder becomes a set: its files sorted into points, then held against each other.

use super::cpt;
use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::StreamKind;
use super::point::{Point, PointDisk};
use super::problem::SetProblem;
use super::scan::Scan;
use super::set::BackupSet;
use super::set_error::SetError;
use super::{check, diffs, exchanged};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
        if !scan.is_set() && scan.partials.is_empty() && !lone_images() {
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
}

/// Folders at or below `folder`, one level deep, that hold streams.
fn sets_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(scan) = Scan::of(folder) else { return Vec::new() };
    if scan.is_set() {
        return vec![folder.to_owned()];
    }
    let holds = |inner: &PathBuf| Scan::of(inner).is_ok_and(|scan| scan.is_set());
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
        points.push(Point { id: PointId::Checkpoint(name), parent, disks, vmconfig: None, definition: None });
    }
    points
}

fn take_kind(scan: &mut Scan, kind: StreamKind) -> BTreeMap<DiskTarget, PointDisk> {
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
    let definition = scan.definition.take();
    if disks.is_empty() && definition.is_none() {
        return None;
    }
    if !committed && scan.is_writing(|kind| kind == StreamKind::Copy) {
        return Some(SetProblem::Unfinished { point: PointId::Copy });
    }
    points.push(Point { id: PointId::Copy, parent: None, disks, vmconfig: None, definition });
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
