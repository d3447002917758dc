//! The domain that a journal speaks of: found, let go, shut off if it was started for the backup.
//!
//! Must not live here: its job (`backup_job`), its checkpoint (`checkpoint`), trying until it is done (`guard`).

use std::time::Duration;

use crate::engine::claims::journal::{DomainRun, Journal, Quiesce, boot_id};
use crate::engine::snapshot::thaw::thaw;
use vmhost::libvirt::{Domain, DomainState, ErrorKind, Host, LibvirtError};

/// How long a guest is asked to thaw before we give up asking.
const THAW_PATIENCE: Duration = Duration::from_secs(20);

/// What became of a domain that was started for its backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartedDomain {
    /// The run that was ours is over.
    ShutOff {
        /// By us, now.
        now: bool,
    },
    /// Somebody has resumed it: it is theirs.
    Resumed,
}

/// The domain a journal speaks of, unless it is gone.
pub(crate) fn find(journal: &Journal, host: &Host) -> Result<Option<Domain>, LibvirtError> {
    match host.domain(&journal.domain) {
        Ok(domain) if domain.uuid() == journal.uuid => Ok(Some(domain)),
        // Another domain under the old name: renamed or defined anew. Look by UUID.
        Ok(_) => Ok(host.domains()?.into_iter().find(|d| d.uuid() == journal.uuid)),
        Err(e) if e.kind == ErrorKind::NoDomain => {
            Ok(host.domains()?.into_iter().find(|d| d.uuid() == journal.uuid))
        }
        Err(e) => Err(e),
    }
}

/// Shuts off a domain that was started for its backup, unless somebody has resumed it.
pub(crate) fn end_started(domain: &Domain, started: &DomainRun) -> Result<StartedDomain, LibvirtError> {
    let is_ours = started.id.is_some() && started.boot == boot_id() && domain.id()? == started.id;
    if !is_ours {
        return Ok(StartedDomain::ShutOff { now: false });
    }
    match domain.state()? {
        // A guest that sleeps, or that an I/O error stopped, ran before: somebody had resumed it.
        DomainState::Paused if domain.is_paused_on_request()? => {
            domain.destroy().map(|()| StartedDomain::ShutOff { now: true })
        }
        state if state.is_active() => Ok(StartedDomain::Resumed),
        _ => Ok(StartedDomain::ShutOff { now: false }),
    }
}

/// Whether the domain still is in the run that the journal says is held: after a restart of the VM, or of the host,
/// nothing of ours holds it.
pub(crate) fn is_held_run(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    match &journal.held {
        Some(held) => Ok(held.boot == boot_id() && domain.id()? == held.id),
        None => Ok(domain.state()?.is_active()),
    }
}

/// Thaws or resumes the guest. `Ok(false)` when there was nothing to do.
pub(crate) fn release_guest(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    if journal.quiesce == Quiesce::None || !is_held_run(domain, journal)? {
        return Ok(false);
    }
    match journal.quiesce {
        Quiesce::Paused if domain.is_paused_on_request()? => domain.resume().map(|()| true),
        Quiesce::Frozen => Ok(thaw(domain, THAW_PATIENCE)),
        _ => Ok(false),
    }
}
