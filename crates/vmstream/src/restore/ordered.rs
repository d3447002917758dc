//! Many threads work, one takes their results in order, and memory stays within a fixed number of buffers.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a stream, and of content, that a thread takes at a time, or a single piece of it if that is larger.
pub(crate) const BATCH_LEN: u64 = 8 << 20;

/// What was made: by whom in the order, and with which buffer.
type Made<S, E> = (u64, Result<S, E>);

/// Runs `work` on each of `jobs` on so many threads, and `take` on each finished buffer, in the jobs' order.
///
/// There is one buffer more than threads. A job is handed out only together with a buffer, so the one that is
/// waited for always has one.
///
/// # Errors
/// The first, in the jobs' order; what runs is finished, nothing new is begun.
pub(crate) fn run<T: Send, S: Send, E: Send>(
    workers: NonZeroUsize,
    new_buffer: impl Fn() -> S,
    jobs: impl Iterator<Item = Result<T, E>> + Send,
    work: impl Fn(T, &mut S) -> Result<(), E> + Sync,
    mut take: impl FnMut(&mut S) -> Result<(), E>,
) -> Result<(), E> {
    let (give_back, free) = channel();
    for _ in 0..=workers.get() {
        // Cannot fail: the receiver lives.
        let _ = give_back.send(new_buffer());
    }
    let source = Mutex::new((free, jobs.enumerate()));
    let (done, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.get() {
            let done = done.clone();
            scope.spawn(|| worker(&source, &work, done));
        }
        drop(done);
        // Owned here, so that an early end closes both channels and the workers stop.
        collect(results, give_back, &mut take)
    })
}

/// A buffer and a job, taken together.
fn worker<T, S, E>(
    source: &Mutex<(Receiver<S>, impl Iterator<Item = (usize, Result<T, E>)>)>,
    work: &impl Fn(T, &mut S) -> Result<(), E>,
    done: Sender<Made<S, E>>,
) {
    loop {
        let (mut buffer, number, job) = {
            let mut source = source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Ok(buffer) = source.0.recv() else { return };
            let Some((number, job)) = source.1.next() else { return };
            (buffer, number as u64, job)
        };
        let result = job.and_then(|job| work(job, &mut buffer)).map(|()| buffer);
        let failed = result.is_err();
        if done.send((number, result)).is_err() || failed {
            return;
        }
    }
}

fn collect<S, E>(
    results: Receiver<Made<S, E>>,
    give_back: Sender<S>,
    take: &mut impl FnMut(&mut S) -> Result<(), E>,
) -> Result<(), E> {
    let (mut waiting, mut next) = (BTreeMap::new(), 0);
    for (number, result) in results {
        waiting.insert(number, result);
        while let Some(result) = waiting.remove(&next) {
            let mut buffer = result?;
            take(&mut buffer)?;
            // Nobody may be left to take it.
            let _ = give_back.send(buffer);
            next += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn run_numbers(workers: usize, fail_at: Option<u64>) -> (Vec<u64>, Result<(), u64>) {
        let mut seen = Vec::new();
        let done = run(
            NonZeroUsize::new(workers).unwrap(),
            || 0u64,
            (0..200u64).map(Ok),
            |job, buffer| {
                // Later jobs are done sooner.
                std::thread::sleep(std::time::Duration::from_micros(200 - job));
                *buffer = job * 3;
                if fail_at == Some(job) { Err(job) } else { Ok(()) }
            },
            |buffer| {
                seen.push(*buffer);
                Ok(())
            },
        );
        (seen, done)
    }

    #[test]
    fn results_come_in_order() {
        for workers in [1, 2, 7] {
            let (seen, done) = run_numbers(workers, None);
            assert_eq!(done, Ok(()));
            assert_eq!(seen, (0..200).map(|job| job * 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_it_after_what_came_before() {
        for workers in [1, 2, 7] {
            let (seen, done) = run_numbers(workers, Some(77));
            assert_eq!(done, Err(77));
            assert_eq!(seen, (0..77).map(|job| job * 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_taker_that_fails_stops_the_workers() {
        let done = run(
            NonZeroUsize::new(3).unwrap(),
            || (),
            (0..u64::MAX).map(Ok),
            |_, _: &mut ()| Ok(()),
            |_| Err("full"),
        );
        assert_eq!(done, Err("full"));
    }
}
