//! Differences: points beside the chain that hold all changes since one checkpoint.

use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::StreamKind;
use super::point::{Point, PointDisk};
use super::scan::Scan;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Streams of one run may carry different seconds when the disks were begun one after the other.
const SAME_RUN_SECONDS: u64 = 5;

/// True for seconds that files of one run may carry.
pub(super) fn is_same_run(seconds: u64, other: u64) -> bool {
    seconds.abs_diff(other) <= SAME_RUN_SECONDS
}

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

/// Takes the differences out of the scan and puts each behind the point it builds on.
pub(super) fn insert(scan: &mut Scan, points: &mut Vec<Point>) {
    let mut runs: Vec<(u64, BTreeMap<DiskTarget, PointDisk>)> = Vec::new();
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
        match runs.last_mut() {
            Some((first, disks)) if is_same_run(epoch, *first) && !disks.contains_key(&disk) => {
                disks.insert(disk, content);
            }
            _ => runs.push((epoch, BTreeMap::from([(disk, content)]))),
        }
    }
    for (epoch, disks) in runs {
        let parent = base(&disks).or_else(|| last_checkpoint(points));
        let behind = points.iter().rposition(|point| match point.id {
            PointId::Checkpoint(name) => Some(name) == parent,
            PointId::Diff(_) => point.parent == parent,
            PointId::Copy => false,
        });
        let place = behind.map_or(points.len(), |behind| behind + 1);
        points.insert(place, Point { id: PointId::Diff(epoch), parent, disks, vmconfig: None });
    }
}

/// The checkpoint that the streams say they build on.
fn base(disks: &BTreeMap<DiskTarget, PointDisk>) -> Option<CheckpointName> {
    disks.values().find_map(|content| match content {
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
