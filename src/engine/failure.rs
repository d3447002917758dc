//! What can fail in any room.
//!
//! Must not live here: what only one room can fail with. That is in its own error type; `BackupError` is their sum, and
//! says what follows from each.

use std::io;
use std::path::PathBuf;

/// A file or directory could not be used.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    pub doing: &'static str,
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The domain stopped, started or lost its job meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("Domain {domain} changed while it was being backed up: {what}")]
pub struct Changed {
    pub domain: String,
    pub what: String,
}
