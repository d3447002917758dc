//! A domain that is shut off, started for its backup and shut off again. No guest code runs.
//!
//! ```text
//! journal ─► guard starts it: paused, autodestroy ─► as for one that is paused ─► end the job ─► shut it off ─► publish
//!                 └── cannot: a copy          └─ any failure, or our death: shut it off ─┘
//! ```
//! libvirt ends a domain with the connection that started it (`VIR_DOMAIN_START_AUTODESTROY`). That connection is the
//! guard's, which outlives us: somebody may resume the guest meanwhile, who then keeps it, as long as the guard lives.

use crate::engine::cancel::Cancel;
use crate::engine::claims::guard::StartError;
use crate::engine::claims::journal::{self, DomainRun, Journal};
use crate::engine::claims::owned::Owned;
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::Changed;
use crate::engine::look::observe;
use crate::engine::plan::job;
use crate::engine::run::contained::contained;
use crate::engine::run::facts::{Decided, Facts, FailedBackup};
use crate::engine::run::undo::undo_after;
use crate::engine::watch::Watch;
use crate::engine::{BackupError, Engine, VmTarget};

impl Engine {
    /// Backs up a domain that is shut off as one that is paused. Takes a copy where it cannot be started. `decided` is
    /// what there is to tell until more is known.
    pub(crate) fn back_up_started(
        &self,
        vm: &VmTarget,
        watch: &dyn Watch,
        cancel: &Cancel,
        decided: Decided,
    ) -> Result<Facts, FailedBackup<Facts>> {
        let known = |known: Option<Box<Facts>>| known.unwrap_or_else(|| Box::new(Facts::new(decided)));
        let mut owned =
            match cancel.check().map_err(Into::into).and_then(|()| self.own(vm, self.start_journal(vm))) {
                Ok(owned) => owned,
                Err(error) => return Err(FailedBackup { error, known: Some(known(None)) }),
            };
        let started = match self.guard.start_domain(owned.journal()) {
            Ok(id) => owned.set_started(Some(id)),
            Err(StartError::Guard(error)) => Err(error.into()),
            Err(StartError::Refused(reason)) => {
                owned.finish()?;
                // Perhaps because somebody else has just started it.
                let mut observed =
                    observe::observe(vm, &self.settings, None, cancel).map_err(BackupError::from)?;
                observed.seen.obstacle = Some(format!("it cannot be started: {reason}"));
                let plan = vmplan::plan_backup(&observed.seen);
                return self.back_up_as_it_is(vm, (observed, plan), None, watch, cancel);
            }
        };
        let back_up = |owned: &mut Owned<'_>| -> Result<Facts, FailedBackup<Facts>> {
            started?;
            self.fail_points.at(FailPoint::Started);
            let observed = observe::observe(vm, &self.settings, None, cancel).map_err(BackupError::from)?;
            if !observed.seen.active {
                let what = "it was shut off right after it was started for its backup".to_owned();
                let changed = Changed { domain: vm.domain.name().to_owned(), what };
                return Err(BackupError::from(changed).into());
            }
            let plan = vmplan::plan_backup(&observed.seen);
            self.back_up_as_it_is(vm, (observed, plan), Some(owned), watch, cancel)
        };
        match contained(|| back_up(&mut owned)) {
            Ok(facts) => match owned.finish() {
                Ok(()) => Ok(facts),
                Err(error) => Err(FailedBackup { error: error.into(), known: Some(Box::new(facts)) }),
            },
            Err(failed) => {
                let mut known = known(failed.known);
                match undo_after(owned, failed.error, vm.domain.host()) {
                    Ok(warning) => {
                        known.warnings.push(warning);
                        Ok(*known)
                    }
                    Err(error) => Err(FailedBackup { error, known: Some(known) }),
                }
            }
        }
    }

    /// Names nothing but the domain that is about to be started.
    fn start_journal(&self, vm: &VmTarget) -> Journal {
        let id = self.next_id();
        let socket = job::servers_socket(&id);
        let started = Some(DomainRun { id: None, boot: journal::boot_id() });
        Journal { started, ..Journal::new(vm, &self.machine_id, id, socket) }
    }
}
