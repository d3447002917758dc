//! A cap on what all backups of a run write to their target together.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::cancel::{Cancel, StopReason};

/// What may be saved up while nobody writes.
const BURST: Duration = Duration::from_millis(500);

/// How often a wait looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes in a second, shared by all writers.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: Option<u64>,
    /// When everything that was taken so far has had its time.
    paid_until: Mutex<Instant>,
}

impl Rate {
    /// 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        let limit = (bytes_per_second > 0).then_some(bytes_per_second);
        Self { bytes_per_second: limit, paid_until: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may be written.
    ///
    /// # Errors
    /// The reason of a stop that came meanwhile; a stop ends the wait at once.
    pub fn take(&self, bytes: usize, cancel: &Cancel) -> Result<(), StopReason> {
        let Some(limit) = self.bytes_per_second else { return Ok(()) };
        let cost = Duration::from_secs_f64(bytes as f64 / limit as f64);
        let until = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            *paid_until = (*paid_until).max(earliest) + cost;
            *paid_until
        };
        loop {
            cancel.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_together_keep_to_the_rate() {
        let rate = Rate::new(1 << 20);
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..4).for_each(|_| rate.take(64 << 10, &Cancel::default()).unwrap()));
            }
        });
        // A MiB at a MiB a second, less what was saved up before.
        assert!(began.elapsed() >= Duration::from_millis(480), "{:?}", began.elapsed());
    }

    #[test]
    fn without_a_limit_nobody_waits_and_a_stop_ends_a_wait() {
        let began = Instant::now();
        Rate::new(0).take(usize::MAX, &Cancel::default()).unwrap();
        let stopped = Cancel::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| Rate::new(1).take(1 << 30, &stopped));
            thread::sleep(Duration::from_millis(20));
            stopped.stop(StopReason::Signal(15));
            assert_eq!(waiting.join().unwrap(), Err(StopReason::Signal(15)));
        });
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }
}
