//! Why a lock could not be taken.

use std::io;
use std::path::PathBuf;

/// A lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A session is under way in this backup path.
    #[error(
        "Another vmbackup session is already running (PID {pid}). It works in the same BACKUP_PATH: {}", of_other(*pid)
    )]
    Session { pid: u32 },
    /// Somebody works on the VM.
    #[error(
        "another vmbackup, vmrestore or virtnbdbackup is working on this VM (PID {pid}, lock {}): {}", path.display(), of_other(*pid)
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

impl LockError {
    /// What helps. The text says it too.
    pub fn fix(&self) -> String {
        match self {
            Self::Session { pid } | Self::Vm { pid, .. } => of_other(*pid),
            Self::File { .. } => "see that BACKUP_PATH can be written and has space".to_owned(),
        }
    }
}

fn of_other(pid: u32) -> String {
    format!("wait for its end, or look at it with: ps -fp {pid}")
}
