//! One place that stops a run: a signal, a full scratch, a job that died, an error in another stage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why work is to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// A signal asked the program to end.
    #[error("stopped by signal {0}")]
    Signal(i32),
    /// The scratch file system was about to fill.
    #[error(
        "only {free} left in scratch directory {dir} (reserve {reserve}{used}); the job was ended before the guest could see \
         an error. Free space there, or point VIRTNBD_SCRATCH_DIR at a larger file system"
    )]
    ScratchFull {
        /// Free space, for people.
        free: String,
        /// What the job's scratch files held a moment before, for people; empty when that is not known.
        used: String,
        /// The reserve, for people.
        reserve: String,
        dir: String,
    },
    /// The scratch directory does not answer.
    #[error(
        "scratch directory {dir} has not answered for {seconds} s; the job was ended, because the guest's own writes wait for it. \
         Look at that storage, or point VIRTNBD_SCRATCH_DIR elsewhere"
    )]
    ScratchHangs {
        dir: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The guard ended the job, because nobody here watched the scratch directory when it had to be.
    #[error(
        "this program stood still while its backup job ran (stopped, or waiting for something that hangs), and its guard watched the \
         scratch directory: {why}"
    )]
    StoodStill {
        /// What the guard saw.
        why: String,
    },
    /// Another stage failed and has reported why.
    #[error("stopped because another part of the backup failed")]
    OtherFailure,
}

/// A flag with a reason, shared by everything that works on one domain. A child is also stopped by its parent.
#[derive(Clone, Default)]
pub struct Cancel {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stopped: AtomicBool,
    reason: Mutex<Option<StopReason>>,
    parent: Option<Cancel>,
}

impl Cancel {
    /// A flag of its own that is also set when `self` is.
    pub fn child(&self) -> Self {
        let inner = Inner { parent: Some(self.clone()), ..Inner::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Asks for a stop. The first reason stays.
    pub fn stop(&self, reason: StopReason) {
        let mut slot = self.inner.reason.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(reason);
        self.inner.stopped.store(true, Ordering::Release);
    }

    /// The reason, once somebody asked for a stop.
    pub fn stopped(&self) -> Option<StopReason> {
        if self.inner.stopped.load(Ordering::Acquire) {
            return self.inner.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        self.inner.parent.as_ref().and_then(Cancel::stopped)
    }

    /// `Err` with the reason once somebody asked for a stop.
    pub fn check(&self) -> Result<(), StopReason> {
        self.stopped().map_or(Ok(()), Err)
    }

    /// The cause of a failure: the stop, once somebody asked for one. What failed then failed because it was ended or given
    /// up.
    pub fn cause<E: From<StopReason>>(&self, error: impl Into<E>) -> E {
        self.stopped().map_or_else(|| error.into(), E::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_a_parent_stops_its_children_only() {
        let run = Cancel::default();
        let (one, two) = (run.child(), run.child());
        one.stop(StopReason::Signal(2));
        one.stop(StopReason::OtherFailure);
        assert_eq!(one.stopped(), Some(StopReason::Signal(2)));
        assert_eq!((two.stopped(), run.stopped()), (None, None));
        run.stop(StopReason::Signal(15));
        assert_eq!(two.check(), Err(StopReason::Signal(15)));
        assert_eq!(one.stopped(), Some(StopReason::Signal(2)));
    }
}
