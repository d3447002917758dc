//! Makes sure, before the guest is touched, that there is a place for its backup and room in it.

use crate::engine::domain::image_format::ImageFormat;
use crate::engine::failure::FileError;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::observe::Observed;
use crate::engine::plan::space;
use crate::engine::run::engine::Engine;
use crate::engine::{BackupError, VmTarget};
use vmplan::{Decision, Plan};
use vmstore::Ownership;
use vmstore::remove::{FolderError, reach};
use vmstream::text;

impl Engine {
    /// Creates the chain directory and makes sure that there is room, before the guest is touched. Returns
    /// how many bytes are free.
    pub(super) fn prepare_target(
        &self,
        vm: &VmTarget,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<u64, BackupError> {
        let dir = &vm.chain_dir;
        let failed = |doing, source| FileError { doing, path: dir.clone(), source };
        let backup_path = vm.vm_dir.parent().unwrap_or(&vm.vm_dir);
        Ownership::make_like_state(backup_path, &vm.vm_dir).map_err(|e| failed("create", e))?;
        std::fs::create_dir_all(dir).map_err(|e| failed("create", e))?;
        let space = space::of(dir).map_err(|e| failed("look at the free space of", e))?;
        let data = self.forecast_data(vm, observed, plan)?;
        let needed = data / 1000 * space::history_ratio_permille(observed.set.as_ref());
        let reserve = self.settings.target_reserve.bytes_of(space.total_bytes);
        if space.free_bytes >= needed.saturating_add(reserve) {
            return Ok(space.free_bytes);
        }
        Err(BackupError::TargetSpace {
            dir: dir.clone(),
            needed: text::size(needed),
            reserve: text::size(reserve),
            free: text::size(space.free_bytes),
        })
    }

    /// Bytes of data that a backup will read: what is allocated, or what changed since the last checkpoint.
    fn forecast_data(&self, vm: &VmTarget, observed: &Observed, plan: &Plan) -> Result<u64, BackupError> {
        let allocated = |disk: &ReadableDisk| disk.info.allocated_bytes;
        let Decision::Incremental { parent, .. } = &plan.decision else {
            let raw = self.settings.raw_disks;
            let wanted = observed.disks.iter().filter(|d| raw || d.format == ImageFormat::Qcow2);
            return Ok(wanted.map(allocated).sum());
        };
        let changed = vm.domain.checkpoint_sizes(&parent.to_string()).unwrap_or_default();
        let of = |disk: &ReadableDisk| {
            let known = changed.iter().find(|(target, _)| *target == disk.target);
            known.map_or(allocated(disk), |(_, bytes)| (*bytes).min(disk.info.virtual_size))
        };
        Ok(observed.disks.iter().filter(|d| d.format == ImageFormat::Qcow2).map(of).sum())
    }
}

/// Refuses a target in which a run that dies could not be undone: what a journal names is reached through no link, and across
/// no mount below the VM's folder.
pub(super) fn refuse_unreachable(vm: &VmTarget, plan: &Plan) -> Result<(), BackupError> {
    // What else there is to refuse may follow from it: a mount hides which checkpoints are ours.
    if matches!(plan.decision, Decision::Skip) {
        return Ok(());
    }
    let backup_path = vm.vm_dir.parent().unwrap_or(&vm.vm_dir);
    let below = vm.chain_dir.strip_prefix(backup_path).unwrap_or(&vm.chain_dir);
    match reach(backup_path, below) {
        Err(FolderError::Link(link)) => {
            let to = std::fs::read_link(&link).unwrap_or_default();
            let to = link.parent().unwrap_or(backup_path).join(to);
            Err(BackupError::Link { to, is_vm_dir: link == vm.vm_dir, link })
        }
        Err(FolderError::Mount(point)) => Err(BackupError::Mount { point, vm_dir: vm.vm_dir.clone() }),
        Err(error @ FolderError::OldKernel) => Err(BackupError::NoUndo(error)),
        // Whoever writes there says what is wrong.
        _ => Ok(()),
    }
}
