//! Measures how busy each stage of a copy was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::limits::CONNECTIONS;
use vmreport::Stages;

/// Time that threads spent on something, added up.
#[derive(Debug, Default)]
pub(super) struct Busy(AtomicU64);

impl Busy {
    /// Runs something and adds the time it takes.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.add(began.elapsed());
        done
    }

    pub(super) fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Measures the copy of one disk.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    /// What the compressors had done before.
    compressed_before: Duration,
    pub(super) reading: Busy,
    pub(super) writing: Busy,
}

impl Meter {
    /// Begins. `compressed` is what the compressors have worked so far, all threads together.
    pub(super) fn begin(compressed: Duration) -> Self {
        let (reading, writing) = (Busy::default(), Busy::default());
        Self { began: Instant::now(), compressed_before: compressed, reading, writing }
    }

    /// Ends, with the same number as at the beginning, and the number of threads that compress.
    pub(super) fn end(&self, compressed: Duration, threads: usize) -> Stages {
        let took = self.began.elapsed();
        let percent = |busy: Duration, threads: usize| {
            let whole = (took.as_nanos() * threads as u128).max(1);
            u64::try_from((busy.as_nanos() * 100 / whole).min(100)).unwrap_or(100)
        };
        Stages::new(
            percent(self.reading.total(), CONNECTIONS),
            percent(compressed.saturating_sub(self.compressed_before), threads),
            percent(self.writing.total(), 1),
            took,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_before_the_copy_does_not_count() {
        let hour = Duration::from_secs(3600);
        let meter = Meter::begin(hour);
        meter.writing.add(hour);
        let stages = meter.end(hour, 2);
        assert_eq!((stages.reads_percent, stages.compression_percent, stages.writing_percent), (0, 0, 100));
    }
}
