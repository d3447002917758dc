//! What a trip of the tripwire means for a chain: which of its points are in doubt, and whether it is no accident.

use vmstream::chain::{BackupSet, Point, PointDisk, PointId};

use super::copy::Trip;
use super::{Engine, VmTarget};
use crate::policy::UnseenChange;
use crate::state::TrippedDisks;

impl Engine {
    /// Looks at the chain that a disk does not fit any more.
    pub(super) fn unseen_change(&self, vm: &VmTarget, trip: &Trip) -> UnseenChange {
        let Trip { target, at } = trip;
        let again = TrippedDisks::of(&self.state, &vm.folder).add(target).unwrap_or_else(|error| {
            tracing::warn!(vm = vm.domain.name(), "cannot note that disk {target} changed unseen: {error}");
            false
        });
        let set = BackupSet::open(&vm.chain_dir).ok();
        let doubtful = set.map(|set| points_since_read(&set, target, *at)).unwrap_or_default();
        UnseenChange { disk: target.clone(), at: *at, doubtful, again }
    }
}

/// The points of a chain after the last one that read this place of a disk: what was there since, nobody knows.
fn points_since_read(set: &BackupSet, target: &str, at: u64) -> Vec<String> {
    let chain = set.points.iter().rev().filter(|point| matches!(point.id, PointId::Checkpoint(_)));
    let mut since: Vec<String> =
        chain.take_while(|point| !has_read(point, target, at)).map(|point| point.id.to_string()).collect();
    since.reverse();
    since
}

/// Whether a point's sidecar knows the content of a place of its own: of others it is the parent's that does.
fn has_read(point: &Point, target: &str, at: u64) -> bool {
    let disk = point.disks.iter().find(|(name, _)| name.as_str() == target).map(|(_, disk)| disk);
    let Some(PointDisk::Stream(entry)) = disk else { return false };
    let Some(sidecar) = entry.bound_sidecar().and_then(|sidecar| sidecar.open()) else { return false };
    let number = at / sidecar.head().granules.size();
    sidecar.runs().map_while(Result::ok).any(|run| run.numbers().contains(&number))
}
