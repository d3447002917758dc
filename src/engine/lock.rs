//! One backup of a domain at a time: a lock that the kernel gives back however we end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

const TRY_EVERY: Duration = Duration::from_millis(50);

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another vmbackup is working on this VM (lock {})", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The file could not be opened.
    #[error("Cannot open lock file {}: {source}", path.display())]
    Open {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A held lock. Given back on drop, and by the kernel when the process ends.
#[derive(Debug)]
pub struct VmLock {
    _file: File,
}

impl VmLock {
    /// Takes the lock, waiting up to `limit` for its holder.
    pub fn wait(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let open = File::options().create(true).append(true).open(path);
        let file = open.map_err(|source| LockError::Open { path: path.to_owned(), source })?;
        let deadline = Instant::now() + limit;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(TRY_EVERY);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Busy { path: path.to_owned() }),
                Err(e) => return Err(LockError::Open { path: path.to_owned(), source: e.into() }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.lock");
        let first = VmLock::wait(&path, Duration::ZERO).unwrap();
        assert!(matches!(VmLock::wait(&path, Duration::ZERO), Err(LockError::Busy { .. })));
        drop(first);
        VmLock::wait(&path, Duration::ZERO).unwrap();
    }
}
