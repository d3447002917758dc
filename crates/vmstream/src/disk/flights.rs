//! Work that several threads want done, and one does: the others wait for it and then look again.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is being worked on.
#[derive(Debug)]
pub(super) struct Flights<K> {
    busy: Mutex<HashSet<K>>,
    landed: Condvar,
}

/// The right to work on one thing, until it is dropped.
#[derive(Debug)]
pub(super) struct Flight<'a, K: Hash + Eq + Copy> {
    flights: &'a Flights<K>,
    key: K,
}

impl<K: Hash + Eq + Copy> Flights<K> {
    pub(super) fn new() -> Self {
        Self { busy: Mutex::new(HashSet::new()), landed: Condvar::new() }
    }

    /// Waits until nobody works on it.
    pub(super) fn begin(&self, key: K) -> Flight<'_, K> {
        let mut busy = self.lock();
        while !busy.insert(key) {
            busy = self.landed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Flight { flights: self, key }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<K>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Copy> Drop for Flight<'_, K> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
        self.flights.landed.notify_all();
    }
}
