//! Makes way for the checkpoint of a new point.
//!
//! Must not live here: which checkpoints no chain needs any more (`vmplan`), how one is deleted (`recovery`).

use std::collections::BTreeSet;

use vmstream::chain::CheckpointName;

use crate::engine::BackupError;
use crate::engine::image::bitmap;
use crate::engine::recovery::checkpoint::delete_checkpoint;
use crate::engine::run::request::Backup;

/// Deletes the checkpoints that no chain needs any more, and bitmaps that no checkpoint accounts for, so that their
/// names are free. Returns what was repaired.
pub(super) fn make_way(backup: &Backup<'_>, new: CheckpointName) -> Result<Vec<String>, BackupError> {
    let Backup { vm, observed, plan, .. } = backup;
    let images: Vec<_> = observed.disks.iter().map(|d| d.image.clone()).collect();
    for name in &plan.drop_checkpoints {
        delete_checkpoint(&vm.domain, name, &images)?;
    }
    let count = plan.drop_checkpoints.len();
    if count > 0 {
        // Part of every new chain, and no repair.
        tracing::info!(vm = vm.domain.name(), "deleted {count} checkpoint(s) that no chain goes on from");
    }
    let remove = |name: String| {
        let removed = bitmap::remove_live(&vm.domain, &name);
        format!("removed {removed} bitmap(s) {name} that no checkpoint knows")
    };
    Ok(stray_bitmaps(backup, new).into_iter().map(remove).collect())
}

/// Bitmaps called like checkpoints of ours that libvirt does not know: left in images of a VM that was defined anew,
/// migrated, or had a disk put back. A new chain, or a new point of that name, cannot be made beside them.
fn stray_bitmaps(backup: &Backup<'_>, new: CheckpointName) -> BTreeSet<String> {
    let observed = backup.observed;
    let known = |name: &String| observed.seen.checkpoints.iter().any(|c| c.name == *name);
    let in_the_way = |name: &String| match name.parse::<CheckpointName>() {
        Ok(parsed) => backup.point.parent.is_none() || parsed == new,
        Err(_) => false,
    };
    let bitmaps = observed.disks.iter().flat_map(|d| &d.info.bitmaps);
    bitmaps.filter(|name| !known(name) && in_the_way(name)).cloned().collect()
}
