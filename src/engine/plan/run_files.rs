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

/// The longest path that a socket can have (unix(7): 108 bytes with the NUL at its end).
const MAX_SOCKET_LEN: usize = 107;

/// The socket of the server for one disk of a domain that is shut off. A target that is too long for one is a number there.
pub(crate) fn nbd_socket(socket: &Path, target: &str) -> PathBuf {
    let name = format!("{}.{target}", socket.display());
    if name.len() <= MAX_SOCKET_LEN {
        return name.into();
    }
    let mut sum = flate2::Crc::new();
    sum.update(target.as_bytes());
    PathBuf::from(format!("{}.{:08x}", socket.display(), sum.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path_that_fits_whatever_the_target() {
        let socket = servers_socket("0123456789abcdef-4194304-4294967295");
        assert_eq!(
            nbd_socket(&socket, "vda").file_name().unwrap().to_string_lossy().rsplit('.').next(),
            Some("vda")
        );
        let long = |last: &str| nbd_socket(&socket, &format!("{}{last}", "vd".repeat(60)));
        assert!(long("a").as_os_str().len() <= MAX_SOCKET_LEN);
        assert_ne!(long("a"), long("b"));
    }
}
