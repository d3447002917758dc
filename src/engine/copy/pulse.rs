//! The time at which a disk's copy last made progress. A watcher beside the copy reads it: a thread that is stuck in a write cannot.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::CopyError;
use super::task::DiskTask;

/// What the writer of a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// It waits for what was read.
    Waiting,
    Writing,
    /// It is held back by a limit on the bandwidth.
    HeldBack,
    /// The disk is not being copied: not begun, or ended.
    Nothing,
}

/// Of one disk.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<(Doing, Instant)>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Doing::Nothing, Instant::now())))
    }

    /// Progress: what comes next is waited for.
    pub(super) fn beat(&self) {
        self.set(Doing::Waiting);
    }

    /// Runs something that writes.
    pub(super) fn writing<T>(&self, write: impl FnOnce() -> T) -> T {
        self.set(Doing::Writing);
        let written = write();
        self.beat();
        written
    }

    /// Runs something that waits on purpose.
    pub(super) fn held_back<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.set(Doing::HeldBack);
        let waited = wait();
        self.beat();
        waited
    }

    /// The disk is copied, or not any more.
    pub(super) fn end(&self) {
        self.set(Doing::Nothing);
    }

    fn set(&self, doing: Doing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (doing, Instant::now());
    }

    /// The error of a disk that made no progress for `limit`.
    pub(super) fn stalled(&self, task: &DiskTask, limit: Duration) -> Option<CopyError> {
        let (doing, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.elapsed() < limit {
            return None;
        }
        let (target, seconds) = (task.target.clone(), limit.as_secs());
        match doing {
            Doing::Waiting => Some(CopyError::Stalled { target, seconds }),
            Doing::Writing => {
                let path = task.sink.path().to_owned();
                Some(CopyError::StalledWrite { target, path, seconds })
            }
            Doing::HeldBack | Doing::Nothing => None,
        }
    }
}
