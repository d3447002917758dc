//! Why a folder below a backup path cannot be entered or changed.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Folders are followed so deep and no deeper: no layout of ours comes near it, and each level holds a file open.
pub(super) const MAX_DEPTH: usize = 64;

/// A folder could not be entered or changed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there.
    #[error("{} is not there", .0.display())]
    Gone(PathBuf),
    /// A link where a folder belongs.
    #[error("{} is a link. Links are never followed when something is deleted: look where it leads, and remove it by hand", .0.display())]
    Link(PathBuf),
    /// Another file system, below a VM's folder.
    #[error("Another file system is mounted at {}. Nothing is deleted across file systems: unmount it first", .0.display())]
    Mount(PathBuf),
    /// What the storage shows its snapshots in, in a folder that is to be removed.
    #[error(
        "{} belongs to the storage, which shows its snapshots there: the folder that it is in is not removed. Hide it (NetApp: \
         snapdir-access, ZFS: snapdir=hidden), or remove the folder by hand", .0.display()
    )]
    OfStorage(PathBuf),
    /// Not a name of one entry.
    #[error("{name:?} cannot be an entry of {}", dir.display())]
    Name { dir: PathBuf, name: String },
    /// Deeper than any backup.
    #[error("{} has more than {MAX_DEPTH} folders inside each other: that is no backup of ours", .0.display())]
    TooDeep(PathBuf),
    /// The kernel cannot keep us inside.
    #[error("Linux 5.6 or newer is needed to delete backups safely (openat2)")]
    OldKernel,
    /// Anything else the system said.
    #[error("Cannot {doing} {}: {source}", path.display())]
    System {
        doing: &'static str,
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FolderError {
    /// What the system said when something was tried.
    pub fn system(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::System { doing, path: path.to_owned(), source }
    }

    pub(super) fn of(doing: &'static str, path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Gone(path.to_owned()),
            other => Self::system(doing, path, other.into()),
        }
    }
}

/// Nothing, where the folder or what it was asked for is not there.
pub(super) fn unless_gone<T>(result: Result<T, FolderError>) -> Result<Option<T>, FolderError> {
    match result {
        Err(FolderError::Gone(_)) => Ok(None),
        other => other.map(Some),
    }
}

impl From<FolderError> for io::Error {
    fn from(error: FolderError) -> Self {
        let kind = match &error {
            FolderError::Gone(_) => io::ErrorKind::NotFound,
            FolderError::Mount(_) => io::ErrorKind::CrossesDevices,
            FolderError::OldKernel => io::ErrorKind::Unsupported,
            FolderError::System { source, .. } => source.kind(),
            FolderError::Link(_)
            | FolderError::Name { .. }
            | FolderError::TooDeep(_)
            | FolderError::OfStorage(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
