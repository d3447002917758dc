//! Why a run could not begin, and what is looked at first: the folders it needs.

use std::path::{Path, PathBuf};

use crate::engine::BackupError;
use vmhost::libvirt::LibvirtError;

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The backup path is not there.
    #[error(
        "BACKUP_PATH {} does not exist. It is never created by a run, because an unmounted disk would be filled beside: \
         mount it, or create the directory once", .0.display()
    )]
    NoBackupPath(PathBuf),
    /// The backup path is not a directory.
    #[error("BACKUP_PATH {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A directory cannot be written.
    #[error("Cannot write to {what} {}: {source}", path.display())]
    NotWritable {
        /// Which setting.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// libvirt does not answer.
    #[error(
        "{source}. Is the libvirt daemon running (systemctl status libvirtd), and may this user connect to it?"
    )]
    Libvirt {
        /// What it said.
        source: LibvirtError,
    },
    /// A domain that was asked for does not exist.
    #[error("VM '{name}' does not exist on this host. Known: {}", known.join(", "))]
    UnknownVm {
        /// Its name.
        name: String,
        /// The names that do.
        known: Vec<String>,
    },
    /// The engine could not be set up.
    #[error("{0}")]
    Engine(#[from] BackupError),
}

/// Fails unless the backup path is a directory. It is never created.
pub fn check_backup_path(path: &Path) -> Result<(), SessionError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(SessionError::NotADirectory(path.to_owned())),
        Err(_) => Err(SessionError::NoBackupPath(path.to_owned())),
    }
}

pub(super) fn check_writable(what: &'static str, path: &Path) -> Result<(), SessionError> {
    // Without a name, or under a random one that nobody can have taken before: everybody may write to a scratch directory.
    let tried = tempfile::tempfile_in(path);
    tried.map(drop).map_err(|source| SessionError::NotWritable { what, path: path.to_owned(), source })
}
