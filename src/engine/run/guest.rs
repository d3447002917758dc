//! Asks the guest what it is before its backup, and has it give back unused blocks.

use crate::engine::look::observe::Observed;
use crate::engine::run::facts::Found;
use crate::engine::run::request::Request;
use vmhost::guest::{self, Guest};
use vmhost::libvirt::DomainState;
use vmreport::Trimmed;

/// The guest, if it runs and its agent answers. One that hangs is a warning, and is not asked again in this run.
pub(super) fn ask<'a>(request: Request<'a>, observed: &Observed, found: &mut Found) -> Option<Guest<'a>> {
    let Request { vm, cancel, .. } = request;
    let running = || vm.domain.state().is_ok_and(|state| state == DomainState::Running);
    if !observed.seen.active || !observed.facts.agent_channel || !running() {
        return None;
    }
    match Guest::ask(&vm.domain, &|| cancel.stopped().is_some()) {
        Ok(guest) => {
            found.os.clone_from(&guest.os);
            found.file_systems.clone_from(&guest.file_systems);
            found.trimmed = trim(request, &guest);
            Some(guest)
        }
        Err(error) => {
            found.warnings.push(format!(
                "the guest agent is connected and cannot be relied on ({error}); the guest is backed up without it"
            ));
            None
        }
    }
}

/// Has the guest give back unused blocks, where that is wanted and can be.
fn trim(request: Request<'_>, guest: &Guest<'_>) -> Option<Trimmed> {
    let settings = &request.engine.settings;
    let (trim, domain) = (settings.trim.as_ref()?, &request.vm.domain);
    if let Some(pattern) = settings.trim_exclude.iter().find(|p| p.matches(domain.name())) {
        tracing::info!(vm = domain.name(), "not trimmed: FSTRIM_EXCLUDE_FILE excludes it by {pattern}");
        return None;
    }
    let xml = domain.xml(false).ok()?;
    Some(guest::trim(guest, &xml, trim, &|| request.cancel.stopped().is_some()))
}
