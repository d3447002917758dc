//! An NBD server for disks that a VM reaches over the network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Lab;
use super::command::must;

/// `qemu-nbd` serving one raw image on a Unix socket. Ends when dropped.
#[derive(Debug)]
pub struct NbdServer {
    process: Child,
    socket: PathBuf,
}

impl Lab {
    /// Serves a raw image, writable, for [`VmSpec::network_disk`](super::VmSpec::network_disk).
    pub fn nbd_server(&self, raw_image: &Path) -> NbdServer {
        let socket = self.path().join(format!("nbd-{}.sock", self.unused_number()));
        let mut command = Command::new("qemu-nbd");
        command
            .args(["--persistent", "--shared", "8", "--format", "raw", "--socket"])
            .arg(&socket)
            .arg(raw_image);
        let process = command.stdin(Stdio::null()).spawn().expect("qemu-nbd starts");
        let server = NbdServer { process, socket };
        let began = Instant::now();
        while !server.socket.exists() {
            assert!(began.elapsed() < Duration::from_secs(10), "{command:?} makes no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        // QEMU runs as another user.
        must(Command::new("chmod").arg("0666").arg(&server.socket));
        server
    }
}

impl NbdServer {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
