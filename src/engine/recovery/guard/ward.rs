//! What the guard knows of one run's backup of one VM.
//!
//! Must not live here: what it does about it (`process`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::next::Seen;
use super::stand_in::JobWatch;
use crate::engine::claims::journal::Quiesce;
use crate::engine::claims::order::Watched;

/// One run's backup of one VM.
pub(super) struct Ward {
    pub(super) watched: Watched,
    /// The run may own more than the guest.
    pub(super) is_owned: bool,
    /// When the guest is to be free.
    pub(super) free_at: Option<Instant>,
    /// Frees the guest. It has ended when the guest was seen to be free.
    pub(super) freeing: Option<Freeing>,
    /// The domain is being started.
    pub(super) is_starting: Arc<AtomicBool>,
    /// Who watches the scratch directory, while there may be a job.
    pub(super) job: Option<JobWatch>,
}

pub(super) struct Freeing {
    /// The run has seen itself that the guest is free.
    pub(super) is_free: Arc<AtomicBool>,
    pub(super) thread: JoinHandle<Seen>,
}

impl Ward {
    pub(super) fn new(watched: Watched) -> Self {
        let is_starting = Arc::new(AtomicBool::new(false));
        Self { watched, is_owned: true, free_at: None, freeing: None, is_starting, job: None }
    }

    pub(super) fn watch(&mut self, watched: Watched, held_for: Option<Duration>) {
        self.watched = watched;
        if self.watched.journal.quiesce == Quiesce::None {
            self.is_free();
        } else if let Some(limit) = held_for {
            self.free_at = Some(Instant::now() + limit);
        }
    }

    /// The run says that it has seen it.
    pub(super) fn is_free(&mut self) {
        self.free_at = None;
        if let Some(freeing) = self.freeing.take() {
            freeing.is_free.store(true, Ordering::Release);
        }
    }

    pub(super) fn is_freeing(&self) -> bool {
        self.freeing.as_ref().is_some_and(|freeing| !freeing.thread.is_finished())
    }

    /// Nothing is claimed, and no guest is looked after.
    pub(super) fn is_over(&self) -> bool {
        !self.is_owned && !self.is_freeing()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::engine::claims::journal::tests::journal;

    fn ward() -> Ward {
        let watched = Watched {
            journal: Box::new(journal("/b".as_ref())),
            file: "/b/_state/journal/web_1.json".into(),
            lock: "/b/_state/lock".into(),
            presence: "/b/_state/presence".into(),
        };
        Ward::new(watched)
    }

    #[test]
    fn a_ward_is_over_when_nothing_is_owned_and_nobody_looks_after_the_guest() {
        let mut ward = ward();
        assert!(!ward.is_over(), "what could not be undone is owned still: the run must not wait for it");
        ward.is_owned = false;
        assert!(ward.is_over());
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || ended.recv().map_or(Seen::Clear, |()| Seen::Ours));
        ward.freeing = Some(Freeing { is_free: Arc::default(), thread });
        assert!(!ward.is_over());
        drop(end);
        while ward.is_freeing() {
            thread::yield_now();
        }
        assert!(ward.is_over());
    }
}
