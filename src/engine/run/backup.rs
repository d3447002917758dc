//! One domain's backup: observe, decide, and do what is decided.
//!
//! Must not live here: how a backup is taken (`take`), how a domain is started for it (`started`).

use crate::engine::cancel::Cancel;
use crate::engine::claims::claimed::Claims;
use crate::engine::commit::repair;
use crate::engine::look::observe::{self, Observed};
use crate::engine::look::unseen;
use crate::engine::run::contained::contained;
use crate::engine::run::engine::Engine;
use crate::engine::run::facts::{Decided, Facts, FailedBackup};
use crate::engine::run::prepare::refuse_unreachable;
use crate::engine::run::request::Request;
use crate::engine::run::take::take;
use crate::engine::target::WhileOff;
use crate::engine::watch::Watch;
use crate::engine::{BackupError, VmTarget};
use vmplan::{Decision, Plan};
use vmreport::BackupReport;
use vmstore::{RemovedCheckpoints, TrippedDisk, TrippedDisks};

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
        let (_lock, _present) = self.take_vm(vm.domain.name(), vm.domain.uuid())?;
        let recovered = self.recover_locked(&vm.folder)?;
        let mut done = Request { engine: self, vm, watch, cancel }.back_up_again_where_tripped();
        match &mut done {
            Ok(facts) => facts.recovered_first(&recovered),
            Err(failed) => failed.known.iter_mut().for_each(|known| known.recovered_first(&recovered)),
        }
        let facts = done.map_err(FailedBackup::into_report)?;
        if matches!(facts.plan().decision, Decision::Incremental { .. }) {
            if let Err(error) = TrippedDisks::of(&self.state, &vm.folder).forget() {
                tracing::warn!(vm = vm.domain.name(), "the note of disks that changed unseen stays: {error}");
            }
        }
        Ok(facts.into_report())
    }
}

impl Request<'_> {
    /// Decides and does it; a full instead of an increment of disks that changed and nothing said so.
    fn back_up_again_where_tripped(self) -> Result<Facts, FailedBackup<Facts>> {
        let failed = match self.back_up() {
            Ok(facts) => return Ok(facts),
            Err(failed) => failed,
        };
        let Some(trip) = failed.error.trip() else { return Err(failed) };
        let unseen_change = Some(unseen::change(self.noted(unseen::look(self.vm, &trip.target, trip.at))));
        if matches!(failed.error, BackupError::LeftBehind { .. }) {
            return Err(failed);
        }
        tracing::warn!(vm = self.vm.domain.name(), "{}. The increment is given up", failed.error);
        Request { vm: &VmTarget { unseen_change, ..self.vm.clone() }, ..self }.back_up()
    }

    /// Notes a disk that changed unseen. Returns what there is to say of it now.
    fn noted(self, found: TrippedDisk) -> TrippedDisk {
        let noted = TrippedDisks::of(&self.engine.state, &self.vm.folder).add(found.clone());
        noted.unwrap_or_else(|error| {
            let disk = &found.disk;
            tracing::warn!(
                vm = self.vm.domain.name(),
                "cannot note that disk {disk} changed unseen: {error}"
            );
            found
        })
    }

    /// Decides and does it.
    fn back_up(self) -> Result<Facts, FailedBackup<Facts>> {
        let Self { engine, vm, .. } = self;
        tracing::debug!("observing {}", vm.domain.name());
        let (observed, plan) = self.decide()?;
        if !plan.start {
            return self.back_up_as_it_is(observed, plan, None);
        }
        let raw_disks = engine.settings.raw_disks;
        let decided = Decided::of(&observed, plan.clone(), raw_disks);
        // Before it is started over an image that somebody else has; of a copy that is asked again.
        let may_start = refuse_unreachable(vm, &plan).and_then(|()| {
            let in_use = observed.in_use_elsewhere(vm, raw_disks);
            in_use.map_or(Ok(()), |error| Err(error.into()))
        });
        let replaced = observed.seen.replaced().map(str::to_owned).collect();
        let while_off = Some(WhileOff { replaced, offline: observed.seen.offline });
        match may_start {
            Ok(()) => {
                let vm = &VmTarget { while_off, ..vm.clone() };
                Request { vm, ..self }.back_up_started(decided)
            }
            Err(error) => Err(FailedBackup { error, known: Some(Box::new(Facts::new(decided))) }),
        }
    }

    /// Looks at the domain and decides what it gets.
    pub(super) fn decide(self) -> Result<(Observed, Plan), BackupError> {
        let observed = observe::observe(self.vm, &self.engine.settings, None, self.cancel)?;
        let plan = vmplan::plan_backup(&observed.seen);
        Ok((observed, plan))
    }

    /// Carries out a plan. `started` is what is claimed of a domain that was started for it.
    pub(super) fn back_up_as_it_is(
        self,
        mut observed: Observed,
        mut plan: Plan,
        started: Option<&mut Claims<'_>>,
    ) -> Result<Facts, FailedBackup<Facts>> {
        let Self { engine, vm, .. } = self;
        let reachable = refuse_unreachable(vm, &plan);
        let mut mended: Vec<String> = plan.repairs.iter().map(ToString::to_string).collect();
        if reachable.is_ok() {
            if let Err(error) = repair::carry_out(vm, &plan.repairs) {
                tracing::warn!(vm = vm.domain.name(), "{error}; a full is taken instead");
                let failed = Some(error.to_string());
                (observed, plan) = Request { vm: &VmTarget { failed, ..vm.clone() }, ..self }.decide()?;
                mended = vec![];
            }
        }
        tracing::debug!("planned {}: {:?}, {}", vm.domain.name(), plan.decision, plan.why);
        let mut facts = Facts::new(Decided::of(&observed, plan.clone(), engine.settings.raw_disks));
        let done = reachable.and_then(|()| {
            facts.recovered_first(&mended);
            contained(|| self.carry_out(&observed, &plan, started, &mut facts))
        });
        match done {
            Ok(()) => Ok(facts),
            Err(error) => Err(FailedBackup { error, known: Some(Box::new(facts)) }),
        }
    }

    /// Does what is decided; the facts grow with each step.
    fn carry_out(
        self,
        observed: &Observed,
        plan: &Plan,
        started: Option<&mut Claims<'_>>,
        facts: &mut Facts,
    ) -> Result<(), BackupError> {
        let Self { engine, vm, .. } = self;
        match &plan.decision {
            Decision::Skip => return Ok(()),
            Decision::Refuse(refusal) => return Err(BackupError::refused(vm, refusal, &plan.why)),
            Decision::Copy { .. } => return take(self, observed, plan, started, facts),
            Decision::Full { .. } | Decision::Incremental { .. } => {
                take(self, observed, plan, started, facts)?;
            }
        }
        // libvirt has the checkpoints of this chain now, and no others.
        if let Err(error) = RemovedCheckpoints::of(&engine.state, &vm.folder).forget() {
            tracing::warn!(vm = vm.domain.name(), "the note of removed checkpoints stays: {error}");
        }
        Ok(())
    }
}
