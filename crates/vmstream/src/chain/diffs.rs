//! Differences: points beside the chain that hold all changes since one checkpoint.

use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::{SetFile, StreamKind, is_same_run};
use super::point::{Point, PointDisk};
use super::problem::SetProblem;
use super::scan::Scan;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// When the run of a difference began.
pub(super) fn seconds(id: PointId) -> Option<u64> {
    match id {
        PointId::Diff(seconds) => Some(seconds),
        _ => None,
    }
}

/// The domain XML of a difference: it has the second in which the run ended, before the next one began.
pub(super) fn vmconfig(scan: &Scan, begun: u64, all: &[u64]) -> Option<PathBuf> {
    let next = all.iter().copied().filter(|other| *other > begun).min().unwrap_or(u64::MAX);
    let mut of_runs = scan.vmconfigs.iter().filter_map(|(id, path)| Some((seconds(*id)?, path)));
    of_runs.find(|(ended, _)| (begun..next).contains(ended)).map(|(_, path)| path.clone())
}

/// The second in which a run ended that begins one of its disks at `begun`, by its domain XML.
fn ended(scan: &Scan, begun: u64) -> Option<u64> {
    scan.vmconfigs.keys().filter_map(|id| seconds(*id)).filter(|ended| *ended >= begun).min()
}

/// True for a difference that a file with these seconds in its name is of.
pub(super) fn is_of(point: &Point, at: u64) -> bool {
    let Some(begun) = seconds(point.id) else { return false };
    let name = point.vmconfig.as_deref().and_then(|path| path.file_name()?.to_str());
    let ended = match name.and_then(SetFile::parse) {
        Some(SetFile::VmConfig(PointId::Diff(ended))) => ended,
        _ => begun,
    };
    is_same_run(at, begun) || (begun..=ended).contains(&at)
}

/// Takes away a difference without domain XML while one of its streams is being written.
pub(super) fn drop_unfinished(scan: &Scan, points: &mut Vec<Point>) -> Vec<SetProblem> {
    let is_unfinished = |point: &Point| {
        let writing = |begun| scan.is_writing(|kind| matches!(kind, StreamKind::Diff(at) if at >= begun));
        point.vmconfig.is_none() && seconds(point.id).is_some_and(writing)
    };
    let found: Vec<PointId> =
        points.iter().filter(|point| is_unfinished(point)).map(|point| point.id).collect();
    points.retain(|point| !found.contains(&point.id));
    found.into_iter().map(|point| SetProblem::Unfinished { point }).collect()
}

/// The streams of one run.
struct Run {
    begun: u64,
    ended: Option<u64>,
    disks: BTreeMap<DiskTarget, PointDisk>,
}

impl Run {
    /// Disks that are read one after the other begin in different seconds; the domain XML is written once, when all ended.
    fn takes(&self, epoch: u64, ended: Option<u64>, disk: &DiskTarget, content: &PointDisk) -> bool {
        let base_of = |content| base([content]);
        let same_base = || base_of(content).is_some() && base(self.disks.values()) == base_of(content);
        let one_config = || ended.is_some() && ended == self.ended && same_base();
        !self.disks.contains_key(disk) && (is_same_run(epoch, self.begun) || one_config())
    }
}

/// Takes the differences out of the scan and puts each behind the point it builds on.
pub(super) fn insert(scan: &mut Scan, points: &mut Vec<Point>) {
    let mut runs: Vec<Run> = Vec::new();
    let found: Vec<(u64, DiskTarget)> = scan
        .streams
        .keys()
        .filter_map(|(kind, disk)| match kind {
            StreamKind::Diff(epoch) => Some((*epoch, disk.clone())),
            _ => None,
        })
        .collect();
    for (epoch, disk) in found {
        let Some(content) = scan.streams.remove(&(StreamKind::Diff(epoch), disk.clone())) else { continue };
        let ended = ended(scan, epoch);
        match runs.last_mut() {
            Some(run) if run.takes(epoch, ended, &disk, &content) => {
                run.disks.insert(disk, content);
            }
            _ => runs.push(Run { begun: epoch, ended, disks: BTreeMap::from([(disk, content)]) }),
        }
    }
    for Run { begun: epoch, disks, .. } in runs {
        let parent = base(disks.values()).or_else(|| last_checkpoint(points));
        let behind = points.iter().rposition(|point| match point.id {
            PointId::Checkpoint(name) => Some(name) == parent,
            PointId::Diff(_) => point.parent == parent,
            PointId::Copy => false,
        });
        let place = behind.map_or(points.len(), |behind| behind + 1);
        points.insert(
            place,
            Point { id: PointId::Diff(epoch), parent, disks, vmconfig: None, definition: None },
        );
    }
}

/// The checkpoint that the streams say they build on.
fn base<'a>(disks: impl IntoIterator<Item = &'a PointDisk>) -> Option<CheckpointName> {
    disks.into_iter().find_map(|content| match content {
        PointDisk::Stream(entry) => entry.meta.as_ref().ok()?.parent_checkpoint.parse().ok(),
        PointDisk::Raw(_) => None,
    })
}

fn last_checkpoint(points: &[Point]) -> Option<CheckpointName> {
    points.iter().rev().find_map(|point| match point.id {
        PointId::Checkpoint(name) => Some(name),
        _ => None,
    })
}
