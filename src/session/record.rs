//! Where a run is written down while it goes on: the database, and the file with the parts of its value.
//!
//! Must not live here: SQL (`catalog`), which rows follow from the value (`row`, `events`), what is printed (`cli`).

use jiff::tz::TimeZone;

use super::events::{self, Done};
use super::row;
use crate::catalog::{Catalog, SessionId, Stamp};
use vmplan::RotationPolicy;
use vmreport::{Part, PartsFile, VmReport};

/// Where a run is written down.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    pub catalog: &'a Catalog,
    /// The run's row; `None` when there is none.
    pub session: Option<SessionId>,
    /// The parts of the run's value; `None` where they cannot be kept.
    pub parts: Option<&'a PartsFile>,
}

impl Records<'_> {
    /// The policy of a VM's last backup, as far as it is known.
    pub(super) fn policy_before(&self, vm: &str) -> Option<RotationPolicy> {
        self.catalog.last_success(vm).ok().flatten().and_then(|last| last.policy)
    }

    /// Adds a part to the file. A backup is no worse without.
    pub fn part(&self, part: &Part) {
        if let Some(Err(error)) = self.parts.map(|parts| parts.add(part)) {
            tracing::warn!("What became of the session is not kept as a file: {error}");
        }
    }

    /// Writes down what became of one VM.
    pub(super) fn vm_end(&self, report: &VmReport) {
        let (catalog, at) = (self.catalog, report.ended);
        let by = Stamp { session: self.session, at };
        if let Some(event) = events::policy_change(report) {
            let (vm, before, now) = (report.vm.as_str(), &event.previous, report.policy);
            tracing::info!(vm, "its rotation policy was {before} at its last backup and is {now} now");
            catalog.event(by, &event);
        }
        if let Some(done) = Done::of(report) {
            self.done(done, by);
        }
        if let (Some(chain), Some(failure)) = (events::failed_chain(report), report.result.failure()) {
            match events::chain_broke(&chain) {
                Some(event) => {
                    catalog.chain_broken(&chain, &failure.error, at);
                    catalog.event(by, &event);
                }
                None => catalog.chain_failed(&chain, &failure.error, at),
            }
        }
        catalog.vm_backup(by, &row::vm_backup(report));
        self.part(&Part::Vm(Box::new(report.clone())));
    }

    fn done(&self, done: Done<'_>, by: Stamp) {
        let (catalog, Done { vm, backup, to }) = (self.catalog, done);
        if let (Some((chain, file)), Some(archive)) = (done.archived(), &backup.archived_to) {
            catalog.chain_archived(&vm.vm, &to.period, archive, backup.archived_bytes, by.at);
            catalog.event(by, &chain);
            catalog.event(by, &file);
        }
        done.periods().iter().for_each(|event| catalog.event(by, event));
        done.chain_begins(TimeZone::system()).iter().for_each(|event| catalog.event(by, event));
        done.small_files().iter().for_each(|event| catalog.event(by, event));
        catalog.chain_active(&done.chain(), by.at);
        if backup.archived_in_doubt {
            catalog.protect(&vm.vm, &to.period, by.at);
        }
    }
}
