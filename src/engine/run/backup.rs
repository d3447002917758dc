//! One domain's backup: observe, decide, and do that in the way which the domain's state allows.
//!
//! Must not live here: the ways themselves (`live`, `offline`, `started`).

use crate::engine::cancel::Cancel;
use crate::engine::claims::owned::Owned;
use crate::engine::commit::mend;
use crate::engine::look::observe::{self, Observed};
use crate::engine::look::unseen;
use crate::engine::run::contained::contained;
use crate::engine::run::engine::Engine;
use crate::engine::run::facts::{Decided, Facts, FailedBackup};
use crate::engine::run::prepare::refuse_unreachable;
use crate::engine::run::{live, offline};
use crate::engine::watch::Watch;
use crate::engine::{BackupError, VmTarget};
use vmhost::guest::{self, Guest};
use vmhost::libvirt::DomainState;
use vmplan::{Decision, Plan};
use vmreport::{BackupReport, Trimmed};
use vmstore::{RemovedCheckpoints, TrippedDisks};

impl Engine {
    /// Backs up one domain.
    ///
    /// On an error nothing of the chain has changed, the guest runs as before, and what could not be undone yet is in
    /// the journal for the next run.
    pub fn backup(
        &self,
        vm: &VmTarget,
        watch: &dyn Watch,
        cancel: &Cancel,
    ) -> Result<BackupReport, FailedBackup> {
        let (_lock, _present) =
            self.take_vm(vm.domain.name(), vm.domain.uuid()).map_err(BackupError::from)?;
        let recovered = self.recover_locked(&vm.folder)?;
        let mut facts = self.back_up_again_where_tripped(vm, watch, cancel).map_err(|failed| {
            let mut known = failed.known;
            known.iter_mut().for_each(|known| drop(known.recovered.splice(0..0, recovered.iter().cloned())));
            FailedBackup { error: failed.error, known }.into_report()
        })?;
        facts.recovered.splice(0..0, recovered);
        if matches!(facts.plan().decision, Decision::Incremental { .. }) {
            if let Err(error) = TrippedDisks::of(&self.state, &vm.folder).forget() {
                tracing::warn!(vm = vm.domain.name(), "the note of disks that changed unseen stays: {error}");
            }
        }
        Ok(facts.into_report())
    }

    /// Decides and does it; a full instead of an increment of disks that changed and nothing said so.
    fn back_up_again_where_tripped(
        &self,
        vm: &VmTarget,
        watch: &dyn Watch,
        cancel: &Cancel,
    ) -> Result<Facts, FailedBackup<Facts>> {
        let failed = match self.back_up_locked(vm, watch, cancel) {
            Ok(facts) => return Ok(facts),
            Err(failed) => failed,
        };
        let Some(trip) = failed.error.trip() else { return Err(failed) };
        let unseen_change = Some(unseen::found(&self.state, vm, &trip.target, trip.at));
        if matches!(failed.error, BackupError::LeftBehind { .. }) {
            return Err(failed);
        }
        tracing::warn!(vm = vm.domain.name(), "{}. The increment is given up", failed.error);
        self.back_up_locked(&VmTarget { unseen_change, ..vm.clone() }, watch, cancel)
    }

    /// Decides and does it.
    fn back_up_locked(
        &self,
        vm: &VmTarget,
        watch: &dyn Watch,
        cancel: &Cancel,
    ) -> Result<Facts, FailedBackup<Facts>> {
        tracing::debug!("observing {}", vm.domain.name());
        let observed = observe::observe(vm, &self.settings, None, cancel).map_err(BackupError::from)?;
        let plan = vmplan::plan_backup(&observed.seen);
        if !plan.start {
            return self.back_up_as_it_is(vm, (observed, plan), None, watch, cancel);
        }
        let decided = Decided::of(&observed, plan.clone(), self.settings.raw_disks);
        // Before it is started over an image that somebody else has; of a copy that is asked again.
        let may_start = refuse_unreachable(vm, &plan).and_then(|()| {
            let in_use = observed.in_use_elsewhere(vm, self.settings.raw_disks);
            in_use.map_or(Ok(()), |error| Err(error.into()))
        });
        match may_start {
            Ok(()) => self.back_up_started(vm, watch, cancel, decided),
            Err(error) => Err(FailedBackup { error, known: Some(Box::new(Facts::new(decided))) }),
        }
    }

    /// Carries out a plan. `started` is what is owned of a domain that was started for it.
    pub(super) fn back_up_as_it_is(
        &self,
        vm: &VmTarget,
        (mut observed, mut plan): (Observed, Plan),
        started: Option<&mut Owned<'_>>,
        watch: &dyn Watch,
        cancel: &Cancel,
    ) -> Result<Facts, FailedBackup<Facts>> {
        let unreachable = refuse_unreachable(vm, &plan).err();
        let mut mended: Vec<String> = plan.repairs.iter().map(ToString::to_string).collect();
        if unreachable.is_none() {
            if let Err(error) = mend::mend(vm, &plan.repairs) {
                tracing::warn!(vm = vm.domain.name(), "{error}; a full is taken instead");
                let failed = Some(error.to_string());
                observed = observe::observe(&VmTarget { failed, ..vm.clone() }, &self.settings, None, cancel)
                    .map_err(BackupError::from)?;
                plan = vmplan::plan_backup(&observed.seen);
                mended = vec![];
            }
        }
        tracing::debug!("planned {}: {:?}, {}", vm.domain.name(), plan.decision, plan.why);
        let mut facts = Facts::new(Decided::of(&observed, plan.clone(), self.settings.raw_disks));
        let done = match unreachable {
            Some(error) => Err(error),
            None => {
                facts.recovered = mended;
                contained(|| self.carry_out(vm, (&observed, &plan), started, watch, cancel, &mut facts))
            }
        };
        match done {
            Ok(()) => Ok(facts),
            Err(error) => Err(FailedBackup { error, known: Some(Box::new(facts)) }),
        }
    }

    /// Does what is decided; the facts grow with each phase.
    fn carry_out(
        &self,
        vm: &VmTarget,
        (observed, plan): (&Observed, &Plan),
        started: Option<&mut Owned<'_>>,
        watch: &dyn Watch,
        cancel: &Cancel,
        facts: &mut Facts,
    ) -> Result<(), BackupError> {
        match &plan.decision {
            Decision::Skip => {}
            Decision::Refuse(refusal) => return Err(BackupError::refused(vm, refusal, &plan.why)),
            Decision::Full { .. } | Decision::Incremental { .. } => {
                let guest = ask_guest(vm, observed, cancel);
                let guest = guest.map_err(|warning| facts.warnings.push(warning)).ok().flatten();
                let guest = guest.as_ref();
                guest.iter().for_each(|guest| facts.add_guest(guest));
                facts.trimmed = guest.and_then(|guest| self.trim(guest, cancel));
                facts.target_free_bytes = Some(self.prepare_target(vm, observed, plan)?);
                let live = live::Live { engine: self, vm, observed, plan, watch, cancel, guest };
                match started {
                    Some(owned) => live.run_started(owned, facts)?,
                    None => live.run(facts)?,
                }
                // libvirt has the checkpoints of this chain now, and no others.
                if let Err(error) = RemovedCheckpoints::of(&self.state, &vm.folder).forget() {
                    tracing::warn!(vm = vm.domain.name(), "the note of removed checkpoints stays: {error}");
                }
            }
            Decision::Copy { .. } => {
                facts.target_free_bytes = Some(self.prepare_target(vm, observed, plan)?);
                offline::Offline { engine: self, vm, observed, plan, watch, cancel }.run(facts)?;
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

/// The guest, if it runs and its agent answers. One that hangs is a warning, and is not asked again in this run.
fn ask_guest<'a>(
    vm: &'a VmTarget,
    observed: &Observed,
    cancel: &Cancel,
) -> Result<Option<Guest<'a>>, String> {
    let running = vm.domain.state().is_ok_and(|state| state == DomainState::Running);
    if !running || !observed.facts.agent_channel {
        return Ok(None);
    }
    Guest::ask(&vm.domain, &|| cancel.stopped().is_some()).map(Some).map_err(|error| {
        format!(
            "the guest agent is connected and cannot be relied on ({error}); the guest is backed up without it"
        )
    })
}
