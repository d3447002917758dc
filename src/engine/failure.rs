//! What can fail in any room, and what follows from a failure.
//!
//! Must not live here: what only one room can fail with. That is in its own error type; `BackupError` is their sum.

use std::io;
use std::path::PathBuf;

use super::cancel::StopReason;
use vmhost::libvirt::{ErrorKind, LibvirtError};
use vmreport::{NextStep, Trouble};

/// A file or directory could not be used.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The domain stopped, started or lost its job meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("Domain {domain} changed while it was being backed up: {what}")]
pub struct Changed {
    /// The domain.
    pub domain: String,
    /// What changed.
    pub what: String,
}

/// The trouble of what was asked to stop.
pub(crate) fn trouble_of_stop(reason: &StopReason) -> Trouble {
    match reason {
        StopReason::Signal(number) => Trouble::Signal(*number),
        StopReason::ScratchFull { .. } | StopReason::ScratchHangs { .. } => Trouble::Storage,
        _ => Trouble::Domain,
    }
}

/// What helps after a call to libvirt failed.
pub(crate) fn next_step_after_libvirt(error: &LibvirtError) -> NextStep {
    match error.kind {
        ErrorKind::CheckpointInconsistent | ErrorKind::NoCheckpoint => NextStep::TryFull,
        _ if error.message.contains("itmap") => NextStep::TryFull,
        _ => NextStep::TryAgain,
    }
}
