//! Work on the domains of a run, several at once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

/// Items that several threads work on. What they come to is complete when the scope of those threads has ended.
pub(super) struct AtOnce<I, T> {
    queue: Mutex<VecDeque<(usize, I)>>,
    done: Mutex<Vec<(usize, T)>>,
}

impl<I: Send, T: Send> AtOnce<I, T> {
    /// Each item with its place in the result, in the order in which they begin.
    pub(super) fn new(items: impl Iterator<Item = (usize, I)>) -> Self {
        Self { queue: Mutex::new(items.collect()), done: Mutex::new(vec![]) }
    }

    /// Begins with it, on so many threads.
    pub(super) fn begin<'scope, 'env: 'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        threads: usize,
        work: &'env (dyn Fn(I) -> T + Sync),
    ) {
        let take = || self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        for _ in 0..threads {
            scope.spawn(move || {
                while let Some((place, item)) = take() {
                    let one = work(item);
                    self.done.lock().unwrap_or_else(PoisonError::into_inner).push((place, one));
                }
            });
        }
    }

    /// What all threads came to, by the items' places.
    pub(super) fn in_order(self) -> Vec<T> {
        let mut done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, one)| one).collect()
    }
}
