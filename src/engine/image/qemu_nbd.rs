//! `qemu-nbd` as a program: reads the disks of a domain that is shut off.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::changes::Changes;
use super::error::ImageError;
use super::node::{node, not_looked_at};
use super::readable_disk::ReadableDisk;
use super::{devices, key, layers};
use crate::engine::cancel::Cancel;
use crate::engine::domain::layout::{self, Devices};
use vmhost::libvirt::Host;
use vmprogram::{Program, Running};

/// How long it may take to open an image.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long one that ends may take to be gone after its connections are.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How often to look at it.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients at once: the readers and the scout of one disk, and some that are just ending.
const CLIENTS: &str = "16";

/// Address space that it may take: its caches, and what its clients have asked for.
const MEMORY_BYTES: u64 = 4 << 30;

/// Why a disk of a domain that is shut off cannot be read, as far as that is known before.
pub(crate) fn refusal(host: &Host, disk: &ReadableDisk, cancel: &Cancel) -> Option<ImageError> {
    let what = disk.layout.unreadable().map(str::to_owned);
    let refused = what.map(|what| ImageError::NotReadable { target: disk.target.clone(), what });
    refused.or_else(|| key::key_of(host, disk).err()).or_else(|| lacks_layer(disk, cancel))
}

/// Why the images below a disk's own cannot be opened: one is not there, or leads back to itself and would be followed until memory
/// ends.
pub(crate) fn lacks_layer(disk: &ReadableDisk, cancel: &Cancel) -> Option<ImageError> {
    let found = if layers::is_one_file(disk) { Ok(vec![]) } else { layers::of(disk, cancel) };
    found.err().map(|e| cancel.cause::<ImageError>(e))
}

/// A read-only export of one image. Ends on drop, and with this process.
pub(crate) struct QemuNbd {
    running: Option<Running>,
    socket: PathBuf,
}

impl QemuNbd {
    /// Exports a disk under its target, with its changes.
    pub(crate) fn start(
        host: &Host,
        disk: &ReadableDisk,
        socket: PathBuf,
        changes: &Changes,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        let failed = |message: String| ImageError::QemuNbd { message };
        let stopped = || cancel.stopped().is_some();
        if let Some(what) = disk.layout.unreadable() {
            return Err(ImageError::NotReadable { target: disk.target.clone(), what: what.to_owned() });
        }
        let key = key::key_of(host, disk)?;
        let image = &disk.image;
        if let Some(error) = lacks_layer(disk, cancel) {
            return Err(error);
        }
        let devices = devices::among(&disk.layout.files(image), &stopped);
        let node = node(disk, &devices.map_err(|e| cancel.cause::<ImageError>(not_looked_at(disk, &e)))?);
        let (options, bitmap) = match changes {
            Changes::Not => (node, None),
            Changes::Bitmap(name) => (node, Some(name.as_str())),
            Changes::Union(union) => {
                let file = layout::file_node(&union.path(), &Devices::new());
                let over = json!({ "driver": "qcow2", "force-share": true, "file": file, "backing": node });
                (over, Some(union.bitmap()))
            }
        };
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
        let mut connection = None;
        while !greets(&mut connection, &started.socket) {
            cancel.check()?;
            let ended = started.running.as_mut().and_then(Running::ended);
            if ended.is_some() || Instant::now() >= deadline {
                let said = started.running.take().map(Running::end).unwrap_or_default();
                let said = if said.is_empty() { "it did not answer in time" } else { &said };
                return Err(failed(format!("qemu-nbd does not serve {}: {said}", image.display())));
            }
        }
        Ok(started)
    }

    /// Why it ended, in its own words, if it has: to its clients that looks like a broken connection. Waits a moment, for its
    /// connections end before it does.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let until = Instant::now() + END_PATIENCE;
        while self.running.as_mut()?.ended().is_none() {
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
        self.running.take().map(Running::end)
    }
}

/// Whether the server speaks. It listens before it has opened its image, and who connects then is only told that the
/// connection broke when it cannot.
fn greets(connection: &mut Option<UnixStream>, socket: &Path) -> bool {
    if connection.is_none() {
        let connected = UnixStream::connect(socket);
        *connection = connected.ok().filter(|on| on.set_read_timeout(Some(PAUSE)).is_ok());
    }
    let said = connection.as_mut().map(|on| on.read(&mut [0]));
    match said {
        Some(Ok(1..)) => return true,
        Some(Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        _ => {
            *connection = None;
            std::thread::sleep(PAUSE);
        }
    }
    false
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        drop(self.running.take());
        let _ = std::fs::remove_file(&self.socket);
    }
}
