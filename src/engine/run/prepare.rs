//! Prepares a backup before anything is claimed and the guest is touched: its parts, and room for it.

use std::path::Path;

use crate::engine::claims::other_job::OtherJob;
use crate::engine::failure::FileError;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::image_state;
use crate::engine::look::observe::Observed;
use crate::engine::plan::disk_plan::DiskPlan;
use crate::engine::plan::job::{self, JobPlan};
use crate::engine::plan::point_identity::PointIdentity;
use crate::engine::plan::space;
use crate::engine::run::facts::{Step, step};
use crate::engine::run::guest;
use crate::engine::run::request::{Backup, Request};
use crate::engine::snapshot::identity::Identity;
use crate::engine::snapshot::scratch;
use crate::engine::{BackupError, VmTarget};
use vmplan::{Decision, Plan};
use vmprogram::Space;
use vmstore::Ownership;
use vmstore::remove::{FolderError, reach, reach_archives};
use vmstream::text;

/// Asks the guest, makes sure that there is room, and decides the backup in all its parts.
pub(super) fn prepare<'a>(
    request: Request<'a>,
    observed: &'a Observed,
    plan: &'a Plan,
    every_disk: &[DiskPlan],
) -> Step<(Backup<'a>, Identity)> {
    step(|found| {
        let Request { engine, vm, watch, cancel } = request;
        let guest = guest::ask(request, observed, found);
        found.target_free_bytes = Some(make_target(request, observed, plan)?);
        let (now, suffix) = (engine.clock.file_time(), engine.settings.method.suffix());
        let point = PointIdentity::next(&plan.decision, observed.set.as_ref(), now, suffix);
        let content = JobPlan::new(observed, every_disk, vm.domain.name())?;
        if point.checkpoint().is_some() {
            found.warnings.extend(job::confusable(&content));
        }
        if content.is_job {
            let settings = &engine.settings;
            scratch::check_space(&settings.scratch_dir, settings.scratch_reserve, cancel)?;
        }
        found.warnings.extend(observed.times_out_of_order().filter(|_| point.parent.is_some()));
        let (identity, warning) = Identity::ask(&engine.settings, vm, observed, cancel, guest.as_ref());
        found.warnings.extend(warning);
        let backup = Backup { engine, vm, watch, cancel, observed, plan, point, content, guest };
        Ok((backup, identity))
    })
}

/// Creates the chain directory and makes sure that there is room. Returns how many bytes are free.
fn make_target(request: Request<'_>, observed: &Observed, plan: &Plan) -> Result<u64, BackupError> {
    let Request { engine, vm, .. } = request;
    let dir = &vm.chain_dir;
    let failed = |doing, source| FileError { doing, path: dir.clone(), source };
    Ownership::make_like_state(vm.backup_path(), &vm.vm_dir).map_err(|e| failed("create", e))?;
    std::fs::create_dir_all(dir).map_err(|e| failed("create", e))?;
    let space = Space::at(dir).map_err(|e| failed("look at the free space of", e))?;
    let data = forecast_data(request, observed, plan);
    let needed = data / 1000 * space::history_ratio_permille(observed.set.as_ref());
    let reserve = engine.settings.target_reserve.bytes_of(space.total_bytes);
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
fn forecast_data(request: Request<'_>, observed: &Observed, plan: &Plan) -> u64 {
    let allocated = |disk: &ReadableDisk| disk.info.allocated_bytes;
    let Decision::Incremental { parent, .. } = &plan.decision else {
        return image_state::wanted(&observed.disks, request.engine.settings.raw_disks).map(allocated).sum();
    };
    let changed = request.vm.domain.checkpoint_sizes(&parent.to_string()).unwrap_or_default();
    let of = |disk: &ReadableDisk| {
        let known = changed.iter().find(|(target, _)| *target == disk.target);
        known.map_or(allocated(disk), |(_, bytes)| (*bytes).min(disk.info.virtual_size))
    };
    image_state::wanted(&observed.disks, false).map(of).sum()
}

/// Refuses a target in which a run that dies could not be undone: what a journal names is reached through no link, and across
/// no mount below the VM's folder. Nor one from which the chain there cannot go to its archive.
pub(super) fn refuse_unreachable(vm: &VmTarget, plan: &Plan) -> Result<(), BackupError> {
    // What else there is to refuse may follow from it: a mount hides which checkpoints are ours.
    if matches!(plan.decision, Decision::Skip) {
        return Ok(());
    }
    let backup_path = vm.backup_path();
    let below = vm.chain_dir.strip_prefix(backup_path).unwrap_or(&vm.chain_dir);
    let leads_to = |link: &Path| {
        let to = std::fs::read_link(link).unwrap_or_default();
        link.parent().unwrap_or(backup_path).join(to)
    };
    match reach(backup_path, below) {
        Err(FolderError::Link(link)) => {
            let to = leads_to(&link);
            Err(BackupError::Link { to, is_vm_dir: link == vm.vm_dir, link })
        }
        Err(FolderError::Mount(point)) => Err(BackupError::Mount { point, vm_dir: vm.vm_dir.clone() }),
        Err(error @ FolderError::OldKernel) => Err(BackupError::NoUndo(error)),
        Ok(())
            if matches!(
                plan.decision,
                Decision::Full { archive: true } | Decision::Copy { archive: true }
            ) =>
        {
            let (archives, link) = match reach_archives(backup_path, below) {
                Err(FolderError::Mount(archives)) => (archives, None),
                Err(FolderError::Link(link)) => (link.clone(), Some(leads_to(&link))),
                _ => return Ok(()),
            };
            Err(BackupError::ArchivesElsewhere { dir: vm.chain_dir.clone(), archives, link })
        }
        // Whoever writes there says what is wrong.
        _ => Ok(()),
    }
}

/// Refuses a domain that has a job, and one of whose disks has: libvirt begins no backup beside it.
pub(super) fn refuse_beside_job(vm: &VmTarget, content: &JobPlan<'_>) -> Result<(), BackupError> {
    let targets = content.disks.iter().map(|(disk, _)| disk.target.as_str());
    let job = OtherJob::of(&vm.domain, targets)?;
    job.map_or(Ok(()), |job| Err(BackupError::JobRunning { domain: vm.domain.name().to_owned(), job }))
}
