//! The memory that frames on their way may take: one budget for all disks of all domains of a run.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::cancel::{Cancel, StopReason};

/// How often a waiter looks whether the run was stopped.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A counting semaphore over bytes.
///
/// A permit is taken when a frame is planned, in disk order, and given back when the frame is written.
/// So the oldest unwritten frame of a disk always holds one, and the pipeline cannot deadlock.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    free_bytes: Mutex<u64>,
    freed: Condvar,
    total_bytes: u64,
}

/// Bytes taken from a budget. Given back on drop.
pub struct Permit {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Budget {
    /// A budget of `total_bytes`.
    pub fn new(total_bytes: u64) -> Self {
        let free_bytes = Mutex::new(total_bytes);
        Self { shared: Arc::new(Shared { free_bytes, freed: Condvar::new(), total_bytes }) }
    }

    /// Takes `bytes`, waiting until they are free. A request above the whole budget takes all of it.
    pub fn take(&self, bytes: u64, cancel: &Cancel) -> Result<Permit, StopReason> {
        let bytes = bytes.min(self.shared.total_bytes);
        let mut free = self.shared.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            cancel.check()?;
            let waited = self.shared.freed.wait_timeout(free, CHECK_EVERY);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= bytes;
        Ok(Permit { shared: Arc::clone(&self.shared), bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.shared.free_bytes.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.shared.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_bytes_and_for_a_stop() {
        let (budget, cancel) = (Budget::new(10), Cancel::default());
        let six = budget.take(6, &cancel).unwrap();
        let waiter = {
            let (budget, cancel) = (budget.clone(), cancel.clone());
            std::thread::spawn(move || budget.take(99, &cancel).map(drop))
        };
        drop(six);
        assert_eq!(waiter.join().unwrap(), Ok(()));
        let _all = budget.take(10, &cancel).unwrap();
        cancel.stop(StopReason::OtherFailure);
        assert_eq!(budget.take(1, &cancel).map(drop), Err(StopReason::OtherFailure));
    }
}
