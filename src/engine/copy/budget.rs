//! The memory that frames on their way may take: one budget for all disks of all domains of a run.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::cancel::{Cancel, StopReason};

/// How often a waiter looks whether the run was stopped.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A counting semaphore over bytes. Who asks first gets first: a large request is not passed by small ones for ever.
///
/// A permit is taken when a frame is planned, in disk order, and given back when the frame is written.
/// So the oldest unwritten frame of a disk always holds one, and the pipeline cannot deadlock.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    freed: Condvar,
    total_bytes: u64,
}

struct State {
    free_bytes: u64,
    /// Those who wait, by number, the first one first.
    waiting: VecDeque<u64>,
    next: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes taken from a budget. Given back on drop.
pub struct Permit {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Budget {
    /// A budget of `total_bytes`.
    pub fn new(total_bytes: u64) -> Self {
        let state = Mutex::new(State { free_bytes: total_bytes, waiting: VecDeque::new(), next: 0 });
        Self { shared: Arc::new(Shared { state, freed: Condvar::new(), total_bytes }) }
    }

    /// Takes `bytes`, waiting until they are free. A request above the whole budget takes all of it.
    pub fn take(&self, bytes: u64, cancel: &Cancel) -> Result<Permit, StopReason> {
        let bytes = bytes.min(self.shared.total_bytes);
        let mut state = self.shared.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(number);
        let stopped = loop {
            if state.waiting.front() == Some(&number) && state.free_bytes >= bytes {
                break None;
            }
            if let Err(reason) = cancel.check() {
                break Some(reason);
            }
            let waited = self.shared.freed.wait_timeout(state, CHECK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting.retain(|waiting| *waiting != number);
        // There may be enough for the one that is first now.
        self.shared.freed.notify_all();
        if let Some(reason) = stopped {
            return Err(reason);
        }
        state.free_bytes -= bytes;
        Ok(Permit { shared: Arc::clone(&self.shared), bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.lock().free_bytes += self.bytes;
        self.shared.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_first_gets_first() {
        let (budget, never) = (Budget::new(10), Cancel::default());
        let some = budget.take(4, &never).unwrap();
        let order = Mutex::new(Vec::new());
        let waiting = |count: usize| {
            while budget.shared.lock().waiting.len() < count {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let (order, budget, never) = (&order, &budget, &never);
            let asks = |bytes: u64| {
                scope.spawn(move || {
                    let permit = budget.take(bytes, never).unwrap();
                    order.lock().unwrap().push(bytes);
                    drop(permit);
                })
            };
            let large = asks(10);
            waiting(1);
            // There is room for it, and it waits all the same; one that gives up lets it pass.
            let small = asks(1);
            waiting(2);
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(*order.lock().unwrap(), [0; 0]);
            drop(some);
            large.join().unwrap();
            small.join().unwrap();
            assert_eq!(*order.lock().unwrap(), [10, 1]);
        });
        let stopped = Cancel::default();
        let all = budget.take(9, &never).unwrap();
        std::thread::scope(|scope| {
            let gives_up = scope.spawn(|| budget.take(10, &stopped).map(drop));
            waiting(1);
            let small = scope.spawn(|| budget.take(1, &never).map(drop));
            waiting(2);
            stopped.stop(StopReason::OtherFailure);
            assert!(gives_up.join().unwrap().is_err());
            assert_eq!(small.join().unwrap(), Ok(()));
        });
        drop(all);
    }

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
