//! What became of a backup job: whether it has begun, and why it cannot be read from any more.
//!
//! libvirt and NBD only say that a connection is gone. A guest that shut down, a job that somebody ended and one that the
//! guard ended all look like that, and each has to be told.

use std::thread;
use std::time::{Duration, Instant};

use crate::engine::BackupError;
use crate::engine::cancel::StopReason;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::journal::Journal;
use crate::engine::copy::CopyError;
use crate::engine::recovery::backup_job::has_job;
use crate::engine::run::request::Backup;
use vmhost::libvirt::{Domain, DomainState};

/// How long a domain may take to be shut off after its job broke.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// How long a job may take to appear whose beginning was not confirmed.
const APPEAR_LIMIT: Duration = Duration::from_secs(5);

/// Whether a failed copy is explained by the domain being shut down (or killed) meanwhile. Waits until that is clear.
pub(super) fn was_shut_down(backup: &Backup<'_>, failed: &BackupError, claims: &Claims<'_>) -> bool {
    let domain = &backup.vm.domain;
    let broke = is_broken_read(failed) || matches!(failed, BackupError::Changed(_) | BackupError::Libvirt(_));
    let until = Instant::now() + SETTLE_LIMIT;
    while broke && backup.cancel.stopped().is_none() && Instant::now() < until {
        let Ok(state) = domain.state() else { return false };
        if !state.is_active() {
            return true;
        }
        if state == DomainState::Running && has_job(domain, claims.journal()).unwrap_or(false) {
            return false;
        }
        thread::sleep(SETTLE_PAUSE);
    }
    false
}

/// The error of a copy that failed, which the domain's end does not explain: that of the job, where it ended first.
pub(super) fn why_not_copied(backup: &Backup<'_>, failed: BackupError, claims: &Claims<'_>) -> BackupError {
    let is_told = matches!(failed, BackupError::Stopped(_)) || backup.cancel.stopped().is_some();
    let why = (!is_told).then(|| claims.why_guard_ended_job()).flatten();
    if let Some(why) = why {
        return StopReason::StoodStill { why }.into();
    }
    if !was_ended(backup, &failed, claims) {
        return failed;
    }
    backup.changed(&format!(
        "its backup job ended before all disks were copied: somebody ended it (virsh domjobabort), or QEMU could \
         not go on and says why in its log. First seen: {failed}"
    ))
}

/// Whether a failed copy is explained by the job being gone, which nobody here ended. Asked once it is clear that the
/// domain was not shut down.
fn was_ended(backup: &Backup<'_>, failed: &BackupError, claims: &Claims<'_>) -> bool {
    is_lost_connection(failed)
        && backup.cancel.stopped().is_none()
        && goes(&backup.vm.domain, claims.journal())
}

fn is_broken_read(error: &BackupError) -> bool {
    matches!(error, BackupError::Copy(CopyError::Read { .. }))
}

/// Whether the job's end may have caused it: not when QEMU itself answered that a disk cannot be read.
fn is_lost_connection(error: &BackupError) -> bool {
    matches!(error, BackupError::Copy(CopyError::Read { source, .. }) if !source.is_answer())
}

/// Whether our job is gone, or goes within moments: QEMU takes its NBD server away first.
fn goes(domain: &Domain, journal: &Journal) -> bool {
    settled(|| match has_job(domain, journal) {
        Ok(true) => None,
        gone => Some(gone.is_ok()),
    })
}

/// Whether our job is there after a call to begin it broke off: the daemon may have begun it, or do so a little later.
pub(super) fn appears(domain: &Domain, journal: &Journal) -> bool {
    settled(|| has_job(domain, journal).unwrap_or(false).then_some(true))
}

/// What a look at the job comes to once it comes to something; false when it does not within [`APPEAR_LIMIT`].
fn settled(look: impl Fn() -> Option<bool>) -> bool {
    let until = Instant::now() + APPEAR_LIMIT;
    loop {
        match look() {
            Some(answer) => return answer,
            None if Instant::now() >= until => return false,
            None => thread::sleep(SETTLE_PAUSE),
        }
    }
}
