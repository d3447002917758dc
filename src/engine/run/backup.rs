//! One domain's backup: observe, decide, and do that in the way which the domain's state allows.
//!
//! Must not live here: the ways themselves (`live`, `offline`, `started`).

use crate::engine::cancel::Cancel;
use crate::engine::commit::mend;
use crate::engine::look::observe::{self, Observed};
use crate::engine::plan::disk_plan;
use crate::engine::recovery::owned::Owned;
use crate::engine::run::engine::Engine;
use crate::engine::run::prepare::refuse_link;
use crate::engine::run::{live, offline};
use crate::engine::watch::Watch;
use crate::engine::{BackupError, Report, VmTarget};
use vmhost::guest::{self, Guest};
use vmhost::libvirt::DomainState;
use vmplan::{Decision, Plan};
use vmreport::Trimmed;
use vmstore::{RemovedCheckpoints, TrippedDisks};

impl Engine {
    /// Backs up one domain.
    ///
    /// On an error nothing of the chain has changed, the guest runs as before, and what could not be undone yet is in
    /// the journal for the next run.
    pub fn backup(&self, vm: &VmTarget, watch: &dyn Watch, cancel: &Cancel) -> Result<Report, BackupError> {
        let (_lock, _present) = self.take_vm(vm.domain.name(), vm.domain.uuid())?;
        let recovered = self.recover_locked(&vm.folder)?;
        let mut report = match self.back_up_locked(vm, watch, cancel) {
            Ok(report) => report,
            Err(error) => {
                let Some(trip) = error.trip() else { return Err(error) };
                let unseen_change = Some(self.unseen_change(vm, trip));
                if matches!(error, BackupError::LeftBehind { .. }) {
                    return Err(error);
                }
                tracing::warn!(vm = vm.domain.name(), "{error}. The increment is given up");
                self.back_up_locked(&VmTarget { unseen_change, ..vm.clone() }, watch, cancel)?
            }
        };
        report.recovered.splice(0..0, recovered);
        if matches!(report.plan.decision, Decision::Incremental { .. }) {
            if let Err(error) = TrippedDisks::of(&self.state, &vm.folder).forget() {
                tracing::warn!(vm = vm.domain.name(), "the note of disks that changed unseen stays: {error}");
            }
        }
        Ok(report)
    }

    /// Decides and does it.
    fn back_up_locked(
        &self,
        vm: &VmTarget,
        watch: &dyn Watch,
        cancel: &Cancel,
    ) -> Result<Report, BackupError> {
        tracing::debug!("observing {}", vm.domain.name());
        let observed = observe::observe(vm, &self.settings, None, cancel)?;
        let plan = vmplan::plan_backup(&observed.seen);
        let mut report = Report::new(plan.clone());
        refuse_link(vm, &plan)?;
        if plan.start {
            // Before it is started over an image that somebody else has; of a copy that is asked again.
            observed.in_use_elsewhere(vm, self.settings.raw_disks).map_or(Ok(()), Err)?;
            self.back_up_started(vm, watch, cancel, &mut report)?;
        } else {
            self.back_up_as_it_is(vm, (observed, plan), None, watch, cancel, &mut report)?;
        }
        Ok(report)
    }

    /// Carries out a plan. `started` is what is owned of a domain that was started for it.
    pub(super) fn back_up_as_it_is(
        &self,
        vm: &VmTarget,
        (mut observed, mut plan): (Observed, Plan),
        started: Option<&mut Owned<'_>>,
        watch: &dyn Watch,
        cancel: &Cancel,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        let mut mended = plan.repairs.iter().map(ToString::to_string).collect();
        if let Err(error) = mend::mend(vm, &plan.repairs) {
            tracing::warn!(vm = vm.domain.name(), "{error}; a full is taken instead");
            let failed = Some(error.to_string());
            observed = observe::observe(&VmTarget { failed, ..vm.clone() }, &self.settings, None, cancel)?;
            plan = vmplan::plan_backup(&observed.seen);
            mended = vec![];
        }
        tracing::debug!("planned {}: {:?}, {}", vm.domain.name(), plan.decision, plan.why);
        report.plan = plan.clone();
        report.recovered.append(&mut mended);
        let before = &observed.seen.chain;
        report.points_before = if before.is_copy { 1 } else { before.points.len() };
        report.warnings.extend(plan.notes.iter().map(ToString::to_string));
        report.damaged = observed.marked_corrupt();
        report.outside.clone_from(&observed.facts.outside);
        report.every_disk = disk_plan::plan_disks(&observed, &plan.decision, self.settings.raw_disks);
        match &plan.decision {
            Decision::Skip => report.points = report.points_before,
            Decision::Refuse(refusal) => return Err(BackupError::refused(vm, refusal, &plan.why)),
            Decision::Full { .. } | Decision::Incremental { .. } => {
                let guest = ask_guest(vm, &observed, cancel, report);
                let guest = guest.as_ref();
                report.trimmed = guest.and_then(|guest| self.trim(guest, cancel));
                self.prepare_target(vm, &observed, &plan)?;
                let (observed, plan) = (&observed, &plan);
                let live = live::Live { engine: self, vm, observed, plan, watch, cancel, guest };
                match started {
                    Some(owned) => live.run_started(owned, report)?,
                    None => live.run(report)?,
                }
                // libvirt has the checkpoints of this chain now, and no others.
                if let Err(error) = RemovedCheckpoints::of(&self.state, &vm.folder).forget() {
                    tracing::warn!(vm = vm.domain.name(), "the note of removed checkpoints stays: {error}");
                }
            }
            Decision::Copy { .. } => {
                self.prepare_target(vm, &observed, &plan)?;
                let (observed, plan) = (&observed, &plan);
                offline::Offline { engine: self, vm, observed, plan, watch, cancel }.run(report)?;
            }
        }
        Ok(())
    }

    /// Has the guest give back unused blocks, where that is wanted and can be.
    fn trim(&self, guest: &Guest<'_>, cancel: &Cancel) -> Option<Trimmed> {
        let settings = self.settings.trim.as_ref()?;
        let domain = guest.agent.domain();
        if let Some(pattern) = self.settings.trim_exclude.iter().find(|p| p.matches(domain.name())) {
            tracing::info!(vm = domain.name(), "not trimmed: FSTRIM_EXCLUDE_FILE excludes it by {pattern}");
            return None;
        }
        let xml = domain.xml(false).ok()?;
        Some(guest::trim(guest, &xml, settings, &|| cancel.stopped().is_some()))
    }
}

/// The guest, if it runs and its agent answers. One that hangs is said once, and not asked again in this run.
fn ask_guest<'a>(
    vm: &'a VmTarget,
    observed: &Observed,
    cancel: &Cancel,
    report: &mut Report,
) -> Option<Guest<'a>> {
    let running = vm.domain.state().is_ok_and(|state| state == DomainState::Running);
    if !running || !observed.facts.agent_channel {
        return None;
    }
    match Guest::ask(&vm.domain, &|| cancel.stopped().is_some()) {
        Ok(guest) => {
            report.os.clone_from(&guest.os);
            report.file_systems.clone_from(&guest.file_systems);
            Some(guest)
        }
        Err(error) => {
            report.warnings.push(format!(
                "the guest agent is connected and cannot be relied on ({error}); the guest is backed up without it"
            ));
            None
        }
    }
}
