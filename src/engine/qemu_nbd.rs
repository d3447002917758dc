//! `qemu-nbd` as a program: reads the disks of a domain that is shut off.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::disk::ImageFormat;
use super::observe::ReadableDisk;
use super::{BackupError, encryption};
use crate::libvirt::Host;

/// How long it may take to open an image.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Clients at once: the readers and the scout of one disk, and some that are just ending.
const CLIENTS: &str = "16";

/// A read-only export of one image. Ends on drop, and when the thread that started it ends.
pub(super) struct QemuNbd {
    child: Child,
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
    ) -> Result<Self, BackupError> {
        let failed = |message: String| BackupError::QemuNbd { message };
        let key = encryption::key_of(host, disk)?;
        let image = &disk.image;
        let mut options = serde_json::json!({
            "driver": disk.format.as_str(),
            "force-share": true,
            "file": { "driver": file_driver(image), "filename": image.to_string_lossy() },
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
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-nbd", "--read-only", "--persistent", "--shared", CLIENTS])
            .args(secret)
            .args(bitmap.into_iter().flat_map(|name| ["--bitmap", name]))
            .args(["--export-name", &disk.target, "--socket"])
            .arg(&socket)
            .arg(format!("json:{options}"))
            .stdin(if key.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                failed(format!("cannot run setpriv and qemu-nbd (packages util-linux, qemu-utils): {e}"))
            })?;
        let mut started = Self { child, socket };
        if let (Some(mut stdin), Some(key)) = (started.child.stdin.take(), key) {
            // Not taken: then it ends, and says why.
            let _ = stdin.write_all(&key);
        }
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(&started.socket).is_err() {
            let ended = started.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() >= deadline {
                let message = started.words();
                return Err(failed(format!("qemu-nbd does not serve {}: {message}", image.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started)
    }

    /// What it printed, after it was ended.
    fn words(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            let _ = std::io::Read::read_to_string(stderr, &mut text);
        }
        let text = text.trim();
        if text.is_empty() { "it did not answer in time".to_owned() } else { text.to_owned() }
    }
}

fn file_driver(image: &Path) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let is_block = std::fs::metadata(image).is_ok_and(|m| m.file_type().is_block_device());
    if is_block { "host_device" } else { "file" }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
