//! Threads that end before their caller goes on.

use std::sync::{Mutex, PoisonError};

/// The result of a thread; its panic goes on in the caller.
pub(crate) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does work on each item, on so many at once, in their order. What it came to has that order too.
pub(crate) fn some_at_once<T: Send, R: Send>(
    count: usize,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items: Vec<T> = items.into_iter().collect();
    let workers = count.min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let serve = || std::iter::from_fn(|| take().map(|(place, item)| (place, work(item)))).collect();
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| -> Vec<_> { serve() })).collect();
        workers.into_iter().flat_map(joined).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, one)| one).collect()
}
