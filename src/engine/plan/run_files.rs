//! Where a run puts what lives no longer than it does: scratch files and sockets.
//!
//! Must not live here: making and removing them (`snapshot`, `claims`).

use std::path::{Path, PathBuf};

/// The scratch file of one disk of a job.
pub(crate) fn scratch_file(dir: &Path, id: &str, target: &str) -> PathBuf {
    dir.join(format!("backup.{id}.{target}"))
}

/// The file that is made and removed to see whether scratch files can be. No disk is called so.
pub(crate) fn scratch_try(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("backup.{id}.try-writing"))
}

/// The socket of a job.
pub(crate) fn job_socket(id: &str) -> PathBuf {
    // AppArmor profiles that admins have installed for the old tool allow exactly this name.
    PathBuf::from(format!("/var/tmp/virtnbdbackup.{id}"))
}

/// Where the sockets of the servers for the disks of a domain that is shut off begin. Not in the scratch directory: it may
/// hang, and such a backup needs nothing else there.
pub(crate) fn servers_socket(id: &str) -> PathBuf {
    PathBuf::from(format!("/var/tmp/vmbackup-{id}.nbd"))
}

/// The socket of the server for one disk of a domain that is shut off.
pub(crate) fn nbd_socket(socket: &Path, target: &str) -> PathBuf {
    PathBuf::from(format!("{}.{target}", socket.display()))
}
