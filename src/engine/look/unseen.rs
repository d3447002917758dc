//! What a trip of the tripwire means for a chain: which of its points are in doubt, and whether it is no accident.
//!
//! It is noted with the chain's id, because the full that follows may fail: what archives the chain then is another try or
//! another run, which may have no increment to find it again.
//! Must not live here: writing that note (`run`).

use vmstream::chain::{BackupSet, Point, PointDisk, PointId};

use super::checkpoint_origin;
use crate::engine::VmTarget;
use vmplan::UnseenChange;
use vmstore::{StateDir, TrippedDisk, TrippedDisks};

/// Looks at the chain that a disk does not fit any more at this offset.
pub(crate) fn look(vm: &VmTarget, target: &str, at: u64) -> TrippedDisk {
    let set = BackupSet::open(&vm.chain_dir).ok();
    let chain = set.as_ref().and_then(|set| {
        checkpoint_origin::kept_chain_id(&vm.chain_dir, &checkpoint_origin::checkpoints_of(set))
    });
    let doubtful = set.map(|set| points_since_read(&set, target, at)).unwrap_or_default();
    TrippedDisk { disk: target.to_owned(), chain, at, doubtful, again: false }
}

/// What earlier tries and runs found of the chain with this id, and no full has put to the archive yet.
pub(crate) fn noted(state: &StateDir, vm: &VmTarget, chain_id: Option<&str>) -> Vec<UnseenChange> {
    let noted = TrippedDisks::of(state, &vm.folder).read().unwrap_or_else(|error| {
        tracing::warn!(vm = vm.domain.name(), "cannot read which disks changed unseen: {error}");
        vec![]
    });
    let of_chain = |disk: &TrippedDisk| chain_id.is_some() && disk.chain.as_deref() == chain_id;
    noted.into_iter().filter(of_chain).map(change).collect()
}

/// What is noted of a disk, as a decision takes it.
pub(crate) fn change(noted: TrippedDisk) -> UnseenChange {
    let TrippedDisk { disk, chain: _, at, doubtful, again } = noted;
    UnseenChange { disk, at, doubtful, again }
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
