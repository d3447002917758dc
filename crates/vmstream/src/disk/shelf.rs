//! What was read and may be wanted again: so many bytes at most, and what was not used for longest goes first.

use lru::LruCache;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values of any size, which cost little to clone.
#[derive(Debug)]
pub(super) struct Shelf<K: Hash + Eq, V> {
    kept: Mutex<Kept<K, V>>,
    room: usize,
}

#[derive(Debug)]
struct Kept<K: Hash + Eq, V> {
    values: LruCache<K, (V, usize)>,
    bytes: usize,
}

/// Bytes that a value takes beside its own: its key, its place in the list, what the allocator adds.
const OVERHEAD: usize = 128;

impl<K: Hash + Eq, V: Clone> Shelf<K, V> {
    /// A shelf for so many bytes.
    pub(super) fn new(room: usize) -> Self {
        Self { kept: Mutex::new(Kept { values: LruCache::unbounded(), bytes: 0 }), room }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.lock().values.get(key).map(|(value, _)| value.clone())
    }

    /// True when it is there, which does not count as a use.
    pub(super) fn has(&self, key: &K) -> bool {
        self.lock().values.contains(key)
    }

    /// What is there, or else what is read now, which is kept: a value, and its bytes.
    pub(super) fn or_read<E>(&self, key: K, read: impl FnOnce() -> Result<(V, usize), E>) -> Result<V, E> {
        if let Some(value) = self.get(&key) {
            return Ok(value);
        }
        let (value, bytes) = read()?;
        self.put(key, value.clone(), bytes);
        Ok(value)
    }

    /// Keeps a value of so many bytes, unless it alone is too large.
    pub(super) fn put(&self, key: K, value: V, bytes: usize) {
        let bytes = bytes + OVERHEAD;
        if bytes > self.room {
            return;
        }
        let mut kept = self.lock();
        let before = kept.values.put(key, (value, bytes));
        kept.bytes = kept.bytes + bytes - before.as_ref().map_or(0, |(_, bytes)| *bytes);
        let mut gone = Vec::from_iter(before);
        while kept.bytes > self.room {
            let Some((_, oldest)) = kept.values.pop_lru() else { break };
            kept.bytes -= oldest.1;
            gone.push(oldest);
        }
        drop(kept);
        // Not with the lock held: giving memory back can take a while.
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Kept<K, V>> {
        // Nothing that may panic runs with the lock held half way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let size = 1000;
        let shelf = Shelf::new(3 * (size + OVERHEAD));
        for key in 0..3 {
            shelf.put(key, key, size);
        }
        assert_eq!(shelf.get(&0), Some(0));
        shelf.put(3, 3, size);
        assert_eq!([0, 1, 2, 3].map(|key| shelf.has(&key)), [true, false, true, true]);
        // The same again takes no more room, and what is too large takes none.
        shelf.put(3, 4, size);
        shelf.put(5, 5, 4 * size);
        assert_eq!([0, 2, 3, 5].map(|key| shelf.get(&key)), [Some(0), Some(2), Some(4), None]);
        assert_eq!(shelf.lock().bytes, 3 * (size + OVERHEAD));
    }
}
