//! The host's own configuration: what a host needs beside its VMs' disks to run them again.
//!
//! Lives here: libvirt's definitions and the files of the host, as versions in `BACKUP_PATH/__HOST_CONFIG__/`. A version is
//! one `.tar.gz`, readable by root alone, and is written only when something differs from the newest.
//! Must not live here: what belongs to a single VM (`identity`, `engine`).
//!
//! ```text
//! definitions ┐
//!             ├► content ─ the newest version's? ─► plan ─► write and sync ─► rename ─► remove old versions
//! files       ┘
//! ```

mod archive;
mod content;
mod files;
mod plan;
mod versions;

use std::io;
use std::path::PathBuf;

pub use plan::{Plan, Why};

pub use vmstore::layout::HOST_CONFIG as FOLDER;

/// The host's configuration could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum HostConfigError {
    /// Its folder is something else.
    #[error("{} is not a folder of this file system: versions are not written through links. Remove it, or move it away", .0.display())]
    NotAFolder(PathBuf),
    /// Its folder cannot be closed to others.
    #[error("{} cannot be made readable by root alone, and secrets do not go where others read: use a file system with owners and modes", .0.display())]
    NotPrivate(PathBuf),
    /// Something about a file.
    #[error("Cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        doing: &'static str,
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
