//! One VM of a run: its folder, its backup with the tries, its older periods, and what is told and written of it.

use std::time::{Instant, SystemTime};

use super::bash_notes;
use super::cleanup::Cleanup;
use super::destination;
use super::open::Session;
use super::outcome::Outcome;
use super::record::Records;
use super::tell::VmEnd;
use super::tries;
use super::watch::RunWatch;
use crate::engine::cancel::Cancel;
use crate::engine::{Engine, VmTarget};
use vmconfig::value::Consistency;
use vmhost::libvirt::{Domain, DomainState};
use vmplan::Decision;
use vmreport::{BackupReport, Method, VmReport};

impl Session {
    /// Backs up one domain. When this returns, what became of it is written down.
    pub(super) fn back_up(
        &self,
        engine: &Engine,
        domain: &Domain,
        records: Records<'_>,
        watch: &dyn RunWatch,
        cancel: &Cancel,
    ) -> VmReport {
        let (since, began) = (Instant::now(), SystemTime::now());
        let _span = tracing::info_span!("back_up", vm = domain.name()).entered();
        let state = state_word(domain);
        let policy_before = records.policy_before(domain.name());
        let (policy, chosen_by) = self.policies.of(domain.name());
        let policy_from = chosen_by.to_string();
        let target = self.place(domain, policy);
        let destination = target.as_ref().ok().and_then(Option::as_ref).map(destination::of);
        let mut retention = None;
        let (outcome, tries) = match target {
            _ if cancel.stopped().is_some() => (Outcome::NotBegun, 0),
            Err(e) => (Outcome::NoFolder(e), 0),
            Ok(None) => (Outcome::Excluded(chosen_by), 0),
            Ok(Some(vm)) => {
                let disks = watch.vm_begin(domain.name());
                let once = |failed| engine.backup(&VmTarget { failed, ..vm.clone() }, disks.as_ref(), cancel);
                let (result, tries) = tries::until_well(domain.name(), self.retries, cancel, once);
                if let Some(report) =
                    result.as_ref().ok().filter(|report| report.plan.decision != Decision::Skip)
                {
                    self.note_for_bash(&vm, state, report);
                    retention = Cleanup::of(self, &vm).after_success(engine, records, began);
                }
                (result.map_or_else(Outcome::Failed, |report| Outcome::Done(Box::new(report))), tries)
            }
        };
        let (took, ended) = (since.elapsed(), self.clock.now());
        let (domain, log_file) = (domain.name().to_owned(), watch.log_file(domain.name()));
        let end = VmEnd { domain, state, policy, policy_from, policy_before, destination, log_file };
        let report = end.tell(outcome, took, tries, retention, ended);
        records.vm_end(&report);
        report
    }
}

impl Session {
    /// Leaves beside the chain what the Bash program would need to go on with it. A backup is no worse without.
    fn note_for_bash(&self, vm: &VmTarget, state: &str, report: &BackupReport) {
        let domain = vm.domain.name();
        let answered = report.os.is_some() || report.method == Some(Method::Agent);
        let is_asked =
            !matches!(self.settings.consistency_of(domain), Consistency::Pause | Consistency::None);
        let agent = (state == "running" && (answered || is_asked)).then_some(answered);
        let period = bash_notes::period_id(self.policies.default, self.today);
        if let Err(error) = bash_notes::keep(&vm.chain_dir, period.as_deref(), agent) {
            tracing::warn!(vm = domain, "The Bash program could not go on with this chain: {error}");
        }
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
