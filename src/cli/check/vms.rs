//! What the next run would do to each VM, and what it could not save.

use super::finding::Finding;
use crate::catalog::Catalog;
use crate::cli::context::Context;
use crate::cli::failed::{Failed, session_error};
use crate::cli::plan;
use crate::engine::domain::skip_reason::SkipReason;
use crate::engine::{DiskPlan, Preview};
use crate::session::{PlannedVm, Session, VmPlan, check_backup_path};
use vmconfig::Warning;
use vmreport::Exit;

/// Settings that name what this host does not have, and the plan of a run that would begin now.
pub(super) fn plans(context: &Context, machine_id: &str) -> Result<(Vec<Warning>, Vec<VmPlan>), Failed> {
    let names: Vec<String> = context.arguments.vm.iter().cloned().collect();
    check_backup_path(context.loaded.settings.backup_path.as_path()).map_err(session_error)?;
    let session =
        Session::open(&context.loaded.settings, &names, context.clock, machine_id).map_err(session_error)?;
    // What retention would drop is not shown here, so nobody need be asked.
    let unknown = session.without_effect(&context.loaded);
    Ok((unknown, session.plan(&Catalog::none())))
}

/// What the next run does to a VM: to each disk, how it holds the guest still, and what it cannot save.
pub(super) fn finding(of: &VmPlan) -> Finding {
    const ABOUT: &str = "VM";
    let said = format!("{}: {}", of.domain, plan::of_vm(of));
    let finding = match &of.planned {
        PlannedVm::Excluded => Finding::good(ABOUT, said),
        PlannedVm::Backup { preview, .. } if preview.refused.is_some() => {
            Finding::bad(ABOUT, Exit::Vm, said, None)
        }
        PlannedVm::Backup { preview, .. } if has_gap(preview) => {
            let fix = "save by other means what the backup leaves out, or leave it out on purpose: VM_EXCLUDE_DISKS, VIRTNBD_EXCLUDE_DISKS";
            Finding::look(ABOUT, said, fix.to_owned())
        }
        PlannedVm::Backup { .. } => Finding::good(ABOUT, said),
        PlannedVm::NoFolder(_) | PlannedVm::Unknown(_) => Finding::bad(ABOUT, Exit::Vm, said, None),
    };
    let PlannedVm::Backup { preview, .. } = &of.planned else { return finding };
    let disks = preview.disks.iter().map(|disk| format!("disk {disk}"));
    let outside = preview.not_backed_up.iter().map(ToString::to_string);
    Finding {
        details: plan::held_still(preview).into_iter().chain(disks).chain(outside).collect(),
        ..finding
    }
}

/// What old restore programs would stumble over.
pub(super) fn of_old_readers(of: &VmPlan) -> impl Iterator<Item = Finding> + '_ {
    let preview = match &of.planned {
        PlannedVm::Backup { preview, .. } => Some(preview),
        _ => None,
    };
    let remarks = preview.into_iter().flat_map(|preview| &preview.not_for_old_readers);
    remarks.map(|remark| {
        let fix = "restore with vmstream extract, which names a disk by its target".to_owned();
        Finding::look("restore", format!("{}: {remark}", of.domain), fix)
    })
}

/// Whether something of the guest's would be in no backup, or in one that may not be exact.
fn has_gap(preview: &Preview) -> bool {
    let gap = |disk: &DiskPlan| disk.skipped().is_some_and(SkipReason::is_gap) || !disk.caveats.is_empty();
    !preview.not_backed_up.is_empty() || preview.disks.iter().any(gap)
}
