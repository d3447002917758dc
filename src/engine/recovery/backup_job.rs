//! The backup job that a journal names: told from others, ended.
//!
//! Must not live here: how one is begun (`run`), trying until it is gone (`guard`).

use std::time::{Duration, Instant};

use crate::engine::claims::journal::Journal;
use crate::engine::domain::xml;
use vmhost::libvirt::{Domain, LibvirtError};

/// How often state is looked at while waiting for it to change.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a job may take to be gone whose point is given up.
const JOB_END_LIMIT: Duration = Duration::from_secs(30);

/// How long a job may take to be gone whose disks are copied.
///
/// As a rule it takes some ten milliseconds. But libvirt handles the end of a job in the thread that also handles an
/// agent's channel going away or coming back, and for those it waits 30 s each, in vain, while there is a backup job
/// (`processSerialChangedEvent` takes a job that the mask set in `qemuBackupBegin` does not allow). An agent that is
/// restarted meanwhile costs a minute.
const COPIED_JOB_END_LIMIT: Duration = Duration::from_secs(300);

/// From when on people are told what is waited for.
const JOB_END_TELL: Duration = Duration::from_secs(5);

/// Ends the backup job if it is the journal's, and waits until it is gone. `Ok(false)` when there is none.
pub(crate) fn end_job(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    end_job_within(domain, journal, JOB_END_LIMIT, &|| false)
}

/// The same for a job whose disks are copied: a point that is whole is worth waiting for, until `stopped`.
pub(crate) fn end_copied_job(
    domain: &Domain,
    journal: &Journal,
    stopped: &dyn Fn() -> bool,
) -> Result<bool, LibvirtError> {
    end_job_within(domain, journal, COPIED_JOB_END_LIMIT, stopped)
}

fn end_job_within(
    domain: &Domain,
    journal: &Journal,
    limit: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<bool, LibvirtError> {
    if !has_job(domain, journal)? {
        return Ok(false);
    }
    let began = Instant::now();
    let mut told = false;
    let mut pause = Duration::from_millis(5);
    let mut ended = domain.abort_job();
    // Asked each time before it is told to end: another job may have come after ours.
    while has_job(domain, journal)? {
        if pause == LOOK_EVERY {
            // Refused before, perhaps because another call held the domain.
            ended = domain.abort_job();
        }
        if began.elapsed() >= limit || stopped() {
            // Neither gone nor refused: somebody must go on trying, with the journal.
            return Err(ended
                .err()
                .unwrap_or_else(|| LibvirtError::still_there("end the backup job", domain.name())));
        }
        if !told && began.elapsed() >= JOB_END_TELL {
            told = true;
            let limit = limit.as_secs();
            tracing::warn!(
                vm = domain.name(),
                "libvirt has not ended the backup job yet (does the guest's agent come and go?); waiting for up to {limit} s"
            );
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_EVERY);
    }
    Ok(true)
}

/// True when the domain's backup job is the one that the journal names: its XML has our socket.
pub(crate) fn has_job(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    Ok(domain.backup_xml()?.is_some_and(|xml| is_job_of(journal, &xml)))
}

/// True when this is the description of the journal's job.
pub(crate) fn is_job_of(journal: &Journal, xml: &str) -> bool {
    xml.contains(&format!("socket='{}'", xml::escape(&journal.socket.to_string_lossy())))
}
