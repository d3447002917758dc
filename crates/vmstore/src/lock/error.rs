//! Why a lock could not be taken.

use std::io;
use std::path::PathBuf;

/// A lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A session is under way in this backup path.
    #[error(
        "Another vmbackup session is already running (PID {pid}). It works in the same BACKUP_PATH: wait for its end, or look at \
         it with: ps -fp {pid}"
    )]
    Session { pid: u32 },
    /// Somebody works on the VM.
    #[error(
        "another vmbackup, vmrestore or virtnbdbackup is working on this VM (PID {pid}, lock {}). Try again when it has ended; \
         look at it with: ps -fp {pid}", path.display()
    )]
    Vm {
        /// Its process; 0 when it has not said.
        pid: u32,
        path: PathBuf,
    },
    /// The file could not be opened or written.
    #[error("Cannot write lock file {}: {source}. Is BACKUP_PATH writable, and is there space?", path.display())]
    File {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
