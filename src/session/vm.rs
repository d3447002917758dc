//! One VM of a run: its folder, its backup with the tries, its older periods, and how it ended.

use std::time::Instant;

use super::cleanup::Cleanup;
use super::destination::Destination;
use super::open::Session;
use super::outcome::{VmOutcome, VmResult};
use super::record::{Records, VmEnd};
use super::tries;
use super::watch::RunWatch;
use crate::engine::cancel::Cancel;
use crate::engine::{Engine, VmTarget};
use vmhost::libvirt::{Domain, DomainState};
use vmplan::Decision;

impl Session {
    /// Backs up one domain, and writes down how that ended.
    pub(super) fn back_up(
        &self,
        engine: &Engine,
        domain: &Domain,
        records: Records<'_>,
        watch: &dyn RunWatch,
        cancel: &Cancel,
    ) -> VmOutcome {
        let since = Instant::now();
        let _span = tracing::info_span!("back_up", vm = domain.name()).entered();
        let state = state_word(domain);
        let policy_before = records.policy_before(domain.name());
        let (policy, chosen_by) = self.policies.of(domain.name());
        let target = self.place(domain, policy);
        let destination = target.as_ref().ok().and_then(Option::as_ref).map(Destination::of);
        let mut retention = None;
        let (result, tries) = match target {
            _ if cancel.stopped().is_some() => (VmResult::NotBegun, 0),
            Err(e) => (VmResult::NoFolder(e), 0),
            Ok(None) => (VmResult::Excluded(chosen_by), 0),
            Ok(Some(vm)) => {
                let disks = watch.vm_begin(domain.name());
                let once = |failed| engine.backup(&VmTarget { failed, ..vm.clone() }, disks.as_ref(), cancel);
                let (result, tries) = tries::until_well(domain.name(), self.retries, cancel, once);
                if result.as_ref().is_ok_and(|report| report.plan.decision != Decision::Skip) {
                    retention = Cleanup::of(self, &vm).after_success(engine, records);
                }
                (result.map_or_else(VmResult::Failed, |report| VmResult::Done(Box::new(report))), tries)
            }
        };
        let (domain, log_file) = (domain.name().to_owned(), watch.log_file(domain.name()));
        let outcome =
            VmOutcome { domain, policy, destination, result, took: since.elapsed(), tries, retention };
        records.vm_end(&VmEnd { outcome: &outcome, state, log_file, policy_before, at: self.clock.now() });
        outcome
    }
}

/// The state of a domain in virsh's words.
fn state_word(domain: &Domain) -> &'static str {
    match domain.state() {
        Ok(DomainState::Running) => "running",
        Ok(DomainState::Paused) => "paused",
        Ok(DomainState::ShutOff) => "shut off",
        Ok(DomainState::Crashed | DomainState::Preserved) => "crashed",
        Ok(DomainState::ShuttingDown) => "in shutdown",
        Ok(DomainState::Unknown(_)) | Err(_) => "unknown",
    }
}
