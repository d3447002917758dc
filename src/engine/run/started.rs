//! A domain that is shut off, started for its backup and shut off again. No guest code runs.
//!
//! ```text
//! journal ─► guard starts it: paused, autodestroy ─► as for one that is paused ─► end the job ─► shut it off ─► publish
//!                 └── cannot: a copy          └─ any failure, or our death: shut it off ─┘
//! ```
//! libvirt ends a domain with the connection that started it (`VIR_DOMAIN_START_AUTODESTROY`). That connection is the
//! guard's, which outlives us: somebody may resume the guest meanwhile, who then keeps it, as long as the guard lives.

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::guard::StartError;
use crate::engine::claims::journal::{self, DomainRun, Journal};
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::Changed;
use crate::engine::plan::run_files;
use crate::engine::run::contained::contained;
use crate::engine::run::facts::{Decided, Facts, FailedBackup};
use crate::engine::run::request::Request;
use crate::engine::run::undo;

impl Request<'_> {
    /// Backs up a domain that is shut off as one that is paused. Takes a copy where it cannot be started. `decided` is
    /// what there is to tell until more is known.
    pub(super) fn back_up_started(self, decided: Decided) -> Result<Facts, FailedBackup<Facts>> {
        let Self { engine, vm, cancel, .. } = self;
        let known = |known: Option<Box<Facts>>| known.unwrap_or_else(|| Box::new(Facts::new(decided)));
        let claims =
            cancel.check().map_err(BackupError::from).and_then(|()| engine.claim(vm, self.start_journal()));
        let mut claims = match claims {
            Ok(claims) => claims,
            Err(error) => return Err(FailedBackup { error, known: Some(known(None)) }),
        };
        let started = match engine.guard.start_domain(claims.journal()) {
            Ok(id) => claims.set_started(Some(id)),
            Err(StartError::Guard(error)) => Err(error.into()),
            Err(StartError::Refused(reason)) => {
                claims.finish()?;
                // Perhaps because somebody else has just started it.
                let (mut observed, _) = self.decide()?;
                observed.seen.obstacle = Some(format!("it cannot be started: {reason}"));
                let plan = vmplan::plan_backup(&observed.seen);
                return self.back_up_as_it_is(observed, plan, None);
            }
        };
        let back_up = |claims: &mut Claims<'_>| -> Result<Facts, FailedBackup<Facts>> {
            started?;
            engine.fail_points.at(FailPoint::Started);
            let (observed, plan) = self.decide()?;
            if !observed.seen.active {
                let what = "it was shut off right after it was started for its backup".to_owned();
                return Err(Changed { domain: vm.domain.name().to_owned(), what }.into());
            }
            self.back_up_as_it_is(observed, plan, Some(claims))
        };
        let (mut known, done) = match contained(|| back_up(&mut claims)) {
            Ok(facts) => (Box::new(facts), Ok(())),
            Err(failed) => (known(failed.known), Err(failed.error)),
        };
        match undo::end(claims, done, vm.domain.host()) {
            Ok(late) => {
                late.into_iter().for_each(|late| known.warn(late));
                Ok(*known)
            }
            Err(error) => Err(FailedBackup { error, known: Some(known) }),
        }
    }

    /// Names nothing but the domain that is about to be started.
    fn start_journal(self) -> Journal {
        let id = self.engine.next_id();
        let socket = run_files::servers_socket(&id);
        let started = Some(DomainRun { id: None, boot: journal::boot_id() });
        Journal { started, ..Journal::new(self.vm, &self.engine.machine_id, id, socket) }
    }
}
