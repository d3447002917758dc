//! What can fail in any room, and what follows from a failure.
//!
//! Must not live here: what only one room can fail with. That is in its own error type; `BackupError` is their sum.

use std::io;
use std::path::PathBuf;

use super::cancel::StopReason;
use vmhost::libvirt::{ErrorKind, LibvirtError};

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

/// What kind of trouble it is. Exit codes follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Space, permissions, paths.
    Storage,
    /// The domain, its state, its job.
    Domain,
    /// Another program we need.
    Tool,
    /// Somebody else is at it.
    Locked,
    /// A signal ended the run.
    Signal(i32),
}

impl Trouble {
    /// Of what was asked to stop.
    pub(crate) fn of_stop(reason: &StopReason) -> Self {
        match reason {
            StopReason::Signal(number) => Self::Signal(*number),
            StopReason::ScratchFull { .. } | StopReason::ScratchHangs { .. } => Self::Storage,
            _ => Self::Domain,
        }
    }
}

/// What helps after a backup failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Only somebody who looks: another try would fail in the same way.
    GiveUp,
    /// The same again, later.
    TryAgain,
    /// A new chain: bitmaps, checkpoints or the chain do not do what they must.
    TryFull,
}

impl NextStep {
    /// After a call to libvirt failed.
    pub(crate) fn after_libvirt(error: &LibvirtError) -> Self {
        match error.kind {
            ErrorKind::CheckpointInconsistent | ErrorKind::NoCheckpoint => Self::TryFull,
            _ if error.message.contains("itmap") => Self::TryFull,
            _ => Self::TryAgain,
        }
    }
}
