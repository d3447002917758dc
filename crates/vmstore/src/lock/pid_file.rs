//! A PID file of this process: written under a kernel lock, and gone when it is given back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::holder::{holder, pid_in};

pub(super) const TRY_EVERY: Duration = Duration::from_millis(50);

/// A PID file that names this process and is locked by it.
#[derive(Debug)]
pub(super) struct PidFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl PidFile {
    /// `Ok(Err(pid))` when a live process of one of these programs has the file. One of ours is waited for up to `limit`:
    /// it may be the guard of a run that has just died.
    pub(super) fn take(path: &Path, programs: &[&str], limit: Duration) -> io::Result<Result<Self, u32>> {
        let until = Instant::now() + limit;
        loop {
            let file = open(path, OFlags::CREATE)?;
            if !try_lock(&file)? {
                if Instant::now() >= until {
                    return Ok(Err(pid_in(&file).unwrap_or_default()));
                }
                std::thread::sleep(TRY_EVERY);
                continue;
            }
            if let Some(other) = holder(&file, programs) {
                // A program without our kernel lock: it may take hours.
                return Ok(Err(other));
            }
            write_own_pid(&file)?;
            let taken = Self { file, path: path.to_owned() };
            // If not, somebody removed it between our opening and writing: what is in its place now counts.
            if taken.is_in_place() {
                return Ok(Ok(taken));
            }
        }
    }

    /// Whether the path still leads to our file.
    pub(super) fn is_in_place(&self) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Still under the lock. Whoever waits for it sees that the file is gone, and makes a new one.
        if self.is_in_place() && pid_in(&self.file) == Some(std::process::id()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Never through a symbolic link: root writes to it.
pub(super) fn open(path: &Path, create: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | create;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?.into())
}

pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_own_pid(file: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}
