//! What a domain would get, decided without touching anything.

use std::path::Path;

use crate::engine::cancel::Cancel;
use crate::engine::claims::journal::Journal;
use crate::engine::domain::not_backed_up::NotBackedUp;
use crate::engine::image::qemu_nbd;
use crate::engine::look::observe;
use crate::engine::plan::disk_plan::{self, DiskPlan};
use crate::engine::plan::job::{self, JobPlan};
use crate::engine::run::prepare::{refuse_beside_job, refuse_unreachable};
use crate::engine::settings::EngineSettings;
use crate::engine::{BackupError, VmTarget};
use vmconfig::value::Consistency;
use vmplan::{Decision, Plan};
use vmstore::StateDir;

/// What is decided for a domain, without doing it.
#[derive(Debug)]
pub struct Preview {
    pub plan: Plan,
    /// An earlier run ended in the middle; its leftovers would be undone first.
    pub leftovers: bool,
    /// Why the backup would be refused.
    pub refused: Option<BackupError>,
    /// What would become of each disk.
    pub disks: Vec<DiskPlan>,
    /// What of it old restore programs stumble over.
    pub not_for_old_readers: Vec<String>,
    /// What the domain uses and no backup holds.
    pub not_backed_up: Vec<NotBackedUp>,
    /// The setting by which the guest would be held still; `None` when it is shut off.
    pub consistency: Option<Consistency>,
    /// The guest has an agent that is connected, as far as libvirt knows.
    pub agent: bool,
}

/// Decides what a domain would get, and touches nothing.
pub fn preview(vm: &VmTarget, settings: &EngineSettings, backup_path: &Path) -> Result<Preview, BackupError> {
    let file = StateDir::of(backup_path).journal(&vm.folder);
    let journal = Journal::read(&file)?;
    let cancel = &Cancel::default();
    let observed = observe::observe(vm, settings, journal.as_ref().map(|j| j.id.as_str()), cancel)?;
    let plan = vmplan::plan_backup(&observed.seen);
    let disks = disk_plan::plan_disks(&observed, &plan.decision, settings.raw_disks);
    let name = vm.domain.name();
    let refused = || match &plan.decision {
        Decision::Refuse(refusal) => Some(BackupError::refused(vm, refusal, &plan.why)),
        Decision::Full { .. } | Decision::Incremental { .. } => match JobPlan::new(&observed, &disks, name) {
            // What an interrupted run left is undone first.
            Ok(content) if observed.seen.active && journal.is_none() => refuse_beside_job(vm, &content).err(),
            // What its QEMU would not open when it is started.
            Ok(_) if !observed.seen.active => {
                let lacks = |disk: &_| qemu_nbd::lacks_layer(disk, cancel);
                observed.disks.iter().find_map(lacks).map(BackupError::from)
            }
            Ok(_) => None,
            Err(error) => Some(error.into()),
        },
        Decision::Copy { .. } => match JobPlan::new(&observed, &disks, name) {
            Ok(content) if content.is_job && journal.is_none() => refuse_beside_job(vm, &content).err(),
            Ok(plan) if plan.is_job => None,
            Ok(plan) => {
                let refusal = |(disk, _): &(&_, _)| qemu_nbd::refusal(vm.domain.host(), disk, cancel);
                plan.disks.iter().find_map(refusal).map(BackupError::from)
            }
            Err(error) => Some(error.into()),
        },
        Decision::Skip => None,
    };
    let copies = matches!(plan.decision, Decision::Copy { .. }) || plan.start;
    let refused = refuse_unreachable(vm, &plan).err().or_else(refused);
    let refused = refused.or_else(|| {
        observed.in_use_elsewhere(vm, settings.raw_disks).filter(|_| copies).map(BackupError::from)
    });
    let content = JobPlan::new(&observed, &disks, name).ok();
    let confused = content.as_ref().and_then(job::confusable);
    let not_for_old_readers = confused.into_iter().chain(job::same_named(&observed.disks)).collect();
    Ok(Preview {
        not_for_old_readers,
        leftovers: journal.is_some(),
        refused,
        disks,
        not_backed_up: observed.facts.not_backed_up,
        consistency: observed.seen.active.then(|| settings.consistency_of(name)),
        agent: observed.facts.agent_channel,
        plan,
    })
}
