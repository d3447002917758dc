//! `qemu-nbd` as a program: reads the disks of a domain that is shut off.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use super::disk::ImageFormat;
use super::observe::ReadableDisk;
use super::{BackupError, encryption, qemu_img};
use crate::libvirt::Host;
use crate::program::{self, Program, Running};

/// How long it may take to open an image.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Clients at once: the readers and the scout of one disk, and some that are just ending.
const CLIENTS: &str = "16";

/// Address space that it may take: its caches, and what its clients have asked for.
const MEMORY_BYTES: u64 = 4 << 30;

/// A read-only export of one image. Ends on drop, and with this process.
pub(super) struct QemuNbd {
    running: Option<Running>,
    socket: PathBuf,
}

impl QemuNbd {
    /// Exports a disk under its target, with a bitmap of it if one is named.
    ///
    /// The image is opened without a lock (`force-share`): somebody who starts the domain meanwhile must succeed. The
    /// caller checks that nobody did.
    pub(super) fn start(
        host: &Host,
        disk: &ReadableDisk,
        socket: PathBuf,
        bitmap: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Self, BackupError> {
        let failed = |message: String| BackupError::QemuNbd { message };
        let stopped = || cancel.stopped().is_some();
        let key = encryption::key_of(host, disk)?;
        let image = &disk.image;
        if !disk.info.stands_alone {
            // One that leads back to itself would be followed until memory ends.
            qemu_img::chain_files(image, &stopped)?;
        }
        let looked = program::look(std::slice::from_ref(image), START_LIMIT, &stopped);
        let look = looked.map_err(|e| failed(format!("looking at {} {e}", image.display())))?.pop();
        let is_device = look.is_some_and(|look| look.is_ok_and(|look| look.is_block_device));
        let file_driver = if is_device { "host_device" } else { "file" };
        let mut options = serde_json::json!({
            "driver": disk.format.as_str(),
            "force-share": true,
            "file": { "driver": file_driver, "filename": image.to_string_lossy() },
        });
        match (&key, disk.format) {
            (None, _) => {}
            (Some(_), ImageFormat::Qcow2) => {
                options["encrypt"] = serde_json::json!({ "format": "luks", "key-secret": "key" });
            }
            (Some(_), ImageFormat::Raw) => {
                options["driver"] = "luks".into();
                options["key-secret"] = "key".into();
            }
        }
        // Through a pipe: arguments and files could be read by others.
        let secret = key.iter().flat_map(|_| ["--object", "secret,id=key,file=/dev/stdin"]);
        let mut program = Program::new("qemu-nbd")
            .memory(MEMORY_BYTES)
            .args(["--read-only", "--persistent", "--shared", CLIENTS])
            .args(secret)
            .args(bitmap.into_iter().flat_map(|name| ["--bitmap", name]))
            .args(["--export-name", &disk.target, "--socket"])
            .arg(&socket)
            .arg(format!("json:{options}"));
        if let Some(key) = key {
            program = program.input(&key);
        }
        let running = program.start();
        let running = running.map_err(|e| failed(format!("qemu-nbd (package qemu-utils) {e}")))?;
        let mut started = Self { running: Some(running), socket };
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(&started.socket).is_err() {
            cancel.check()?;
            let ended = started.running.as_mut().and_then(Running::ended);
            if ended.is_some() || Instant::now() >= deadline {
                let said = started.running.take().map(Running::end).unwrap_or_default();
                let said = if said.is_empty() { "it did not answer in time" } else { &said };
                return Err(failed(format!("qemu-nbd does not serve {}: {said}", image.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started)
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        drop(self.running.take());
        let _ = std::fs::remove_file(&self.socket);
    }
}
