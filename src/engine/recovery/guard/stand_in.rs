//! Watches the scratch directory of a job for a run that does not: it was stopped, or hangs.
//!
//! Must not live here: how low the space may run (`snapshot::scratch`), how a job is ended (`work`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::cancel::Cancel;
use crate::engine::claims::order::Scratch;
use crate::engine::snapshot::scratch;

/// A run that has not said for so long that it watches does not.
const BEAT_LIMIT: Duration = Duration::from_secs(1);

/// Who watches the scratch directory of a job.
pub(super) struct JobWatch {
    scratch: Scratch,
    /// When the run said last that it does.
    beat: Instant,
    /// We do, until this says that it is over.
    ours: Option<Arc<AtomicBool>>,
    /// Why we ended the job, from right before that.
    why: Arc<OnceLock<String>>,
}

/// Decides, from what is known and from nothing else, whether nobody watches.
fn is_unwatched(silent_for: Duration, is_ours: bool, was_ended: bool) -> bool {
    silent_for >= BEAT_LIMIT && !is_ours && !was_ended
}

impl JobWatch {
    /// The run watches, from now on.
    pub(super) fn new(scratch: Scratch) -> Self {
        Self { scratch, beat: Instant::now(), ours: None, why: Arc::default() }
    }

    /// The run watches still, or again. Tells why the job was ended meanwhile, if it was.
    pub(super) fn beat(&mut self) -> Option<String> {
        self.beat = Instant::now();
        self.leave_off();
        self.why.get().cloned()
    }

    /// Whether nobody watches.
    pub(super) fn is_unwatched(&self) -> bool {
        is_unwatched(self.beat.elapsed(), self.ours.is_some(), self.why.get().is_some())
    }

    /// Watches in a thread of its own until the run does again, and ends the job there when it must.
    pub(super) fn stand_in(&mut self, end_job: impl FnOnce() + Send + 'static) {
        let over = Arc::new(AtomicBool::new(false));
        let (scratch, why) = (self.scratch.clone(), Arc::clone(&self.why));
        self.ours = Some(Arc::clone(&over));
        thread::spawn(move || {
            let cancel = Cancel::default();
            let is_over = || over.load(Ordering::Acquire);
            // What the job has used is not known here.
            scratch::watch(&scratch.dir, &[], scratch.reserve, &AtomicU64::new(0), &cancel, &is_over);
            if let Some(reason) = cancel.stopped() {
                // First: a run that finds its job gone asks why.
                let _ = why.set(reason.to_string());
                end_job();
            }
        });
    }

    fn leave_off(&mut self) {
        if let Some(over) = self.ours.take() {
            over.store(true, Ordering::Release);
        }
    }
}

impl Drop for JobWatch {
    fn drop(&mut self) {
        self.leave_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_watches_where_the_run_is_silent_and_only_once() {
        let (short, long) = (Duration::from_millis(999), Duration::from_secs(1));
        let rows = [
            (short, false, false, false),
            (short, true, false, false),
            (short, false, true, false),
            (short, true, true, false),
            (long, false, false, true),
            (long, true, false, false),
            (long, false, true, false),
            (long, true, true, false),
        ];
        for (silent_for, is_ours, was_ended, want) in rows {
            let got = is_unwatched(silent_for, is_ours, was_ended);
            assert_eq!(got, want, "{silent_for:?} {is_ours} {was_ended}");
        }
    }
}
