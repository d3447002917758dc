//! Why a run could not begin, and what is looked at first: the folders it needs.

use std::path::{Path, PathBuf};

use crate::engine::BackupError;
use crate::engine::cancel::Cancel;
use crate::engine::snapshot::scratch;
use vmhost::libvirt::LibvirtError;

/// What helps where there is no backup path.
const MAKE_PATH: &str = "mount it, or create the directory once";

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The backup path is not there.
    #[error(
        "BACKUP_PATH {} does not exist. It is never created by a run, because an unmounted disk would be filled beside: \
         {}", .0.display(), MAKE_PATH
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
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// libvirt does not answer.
    #[error(
        "{source}. Is the libvirt daemon running (systemctl status libvirtd), and may this user connect to it?"
    )]
    Libvirt { source: LibvirtError },
    /// A domain that was asked for does not exist.
    #[error("VM '{name}' does not exist on this host. Known: {}", known.join(", "))]
    UnknownVm {
        name: String,
        /// The names that do.
        known: Vec<String>,
    },
    /// The engine could not be set up.
    #[error("{0}")]
    Engine(#[from] BackupError),
}

impl SessionError {
    /// What helps, where that can be told apart. The text says it too.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::NoBackupPath(_) => Some(MAKE_PATH.to_owned()),
            Self::NotADirectory(_) => Some("correct BACKUP_PATH".to_owned()),
            Self::NotWritable { what, .. } => Some(format!("see that {what} can be written")),
            Self::Libvirt { .. } => {
                Some("start the libvirt daemon (systemctl start libvirtd), or correct LIBVIRT_URI".to_owned())
            }
            Self::UnknownVm { known, .. } => Some(format!("name one of: {}", known.join(", "))),
            Self::Engine(_) => None,
        }
    }
}

/// Fails unless the backup path is a directory. It is never created.
pub fn check_backup_path(path: &Path) -> Result<(), SessionError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(SessionError::NotADirectory(path.to_owned())),
        Err(_) => Err(SessionError::NoBackupPath(path.to_owned())),
    }
}

/// Fails unless files can be made in the backup path.
pub(super) fn check_writable(path: &Path) -> Result<(), SessionError> {
    let failed = |source| SessionError::NotWritable { what: "BACKUP_PATH", path: path.to_owned(), source };
    tempfile::tempfile_in(path).map(drop).map_err(failed)
}

/// Where the scratch directory really is, without `..` and links: the journal names files in it, and whoever believes the
/// journal takes no such way. Fails unless files can be made there. One that hangs stops no run, for VMs that are shut off
/// need none: each backup that needs it tries it right before.
pub(super) fn scratch_place(path: &Path, cancel: &Cancel) -> Result<PathBuf, SessionError> {
    let refused = |said: String| SessionError::NotWritable {
        what: "VIRTNBD_SCRATCH_DIR",
        path: path.to_owned(),
        source: std::io::Error::other(said),
    };
    match vmprogram::writable_directory(path, scratch::HANG_LIMIT, &|| cancel.stopped().is_some()) {
        Ok(looked) => looked.map_err(refused),
        Err(error) => {
            let path_text = path.display();
            tracing::warn!(
                "VIRTNBD_SCRATCH_DIR {path_text} cannot be looked at: a program that does {error}"
            );
            Ok(path.to_owned())
        }
    }
}
