//! A thread of its own in front of what may hang: a file on a target that is gone, a terminal that is held.
//!
//! Whoever has something to say puts it into the queue and goes on, whatever the thread is waiting for. The queue is
//! bounded: what does not fit is dropped and counted, and the count is said as soon as something gets through again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

/// What waits at most. A long session has some thousand lines in all.
const WAITING: usize = 8192;

/// Jobs for one thread, in order.
pub(super) struct Queue<J> {
    jobs: Sender<J>,
    dropped: Arc<AtomicU64>,
}

impl<J: Send + 'static> Queue<J> {
    /// `serve` gets each job, and how many were dropped since the one before.
    pub(super) fn start(name: &str, mut serve: impl FnMut(J, u64) + Send + 'static) -> Self {
        let (jobs, waiting) = bounded::<J>(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&dropped);
        let work = move || waiting.iter().for_each(|job| serve(job, missing.swap(0, Ordering::AcqRel)));
        // Without the thread nothing is logged, and everything else works.
        let _ = thread::Builder::new().name(name.to_owned()).spawn(work);
        Self { jobs, dropped }
    }

    /// Never waits.
    pub(super) fn put(&self, job: J) {
        if self.jobs.try_send(job).is_err() {
            self.dropped.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// For what must not be dropped. False when there was no room for so long.
    pub(super) fn put_within(&self, job: J, limit: Duration) -> bool {
        self.jobs.send_timeout(job, limit).is_ok()
    }

    /// Waits until all that was put before is done. False when it was not in time. `flush` makes the job that drops its
    /// sender when it is served.
    pub(super) fn flush(&self, flush: impl FnOnce(Sender<()>) -> J, limit: Duration) -> bool {
        let (done, waiting) = bounded(0);
        let is_late = || waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        self.put_within(flush(done), limit) && !is_late()
    }

    /// What waits, and what was dropped since something was served.
    pub(super) fn undone(&self) -> u64 {
        self.jobs.len() as u64 + self.dropped.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_nobody_waits() {
        let (hang, hung) = bounded::<()>(0);
        let served = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&served);
        let queue = Queue::start("test", move |job: Option<usize>, dropped| {
            // The first one hangs.
            let _ = hung.recv();
            if let Some(job) = job {
                into.lock().unwrap().push((job, dropped));
            }
        });
        queue.put(Some(0));
        while !queue.jobs.is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        let began = std::time::Instant::now();
        (1..WAITING + 10).for_each(|number| queue.put(Some(number)));
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(!queue.put_within(None, Duration::from_millis(10)), "it is full");
        drop(hang);
        let is_flushed = queue.flush(
            |done| {
                drop(done);
                None
            },
            Duration::from_secs(60),
        );
        assert!(is_flushed);
        while served.lock().unwrap().len() < WAITING {
            thread::sleep(Duration::from_millis(1));
        }
        let served = served.lock().unwrap();
        let dropped: u64 = served.iter().map(|(_, dropped)| dropped).sum();
        assert_eq!(served.len() as u64 + dropped, WAITING as u64 + 10, "nothing vanishes unsaid");
        assert!(dropped >= 9, "{dropped}");
        assert!(served.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order");
    }
}
