//! How busy each stage of a copy was, and which one held up the others.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::limits::CONNECTIONS;

/// A stage that was busy for less than this can have held up nobody.
const BUSY_PERCENT: u64 = 25;

/// A stage of the copy of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The guest's disk, as QEMU serves it.
    Reads,
    /// The compressors, which all disks of a run share.
    Compression,
    /// The file in the target.
    Writing,
}

/// How busy each stage was while a disk was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// The busiest one: the others waited for it.
    pub bottleneck: Stage,
    /// Of the connections' time: that in which they waited for QEMU.
    pub reads_percent: u64,
    /// Of the compressors' time: that in which they worked, for this disk or others.
    pub compression_percent: u64,
    /// Of the writer's time: that in which it wrote, and was held back by a bandwidth limit.
    pub writing_percent: u64,
    /// How long the copy took.
    #[serde(rename = "copy_ms", serialize_with = "crate::engine::report::as_millis")]
    pub took: Duration,
}

impl Stages {
    fn new(reads_percent: u64, compression_percent: u64, writing_percent: u64, took: Duration) -> Self {
        let stages = [
            (Stage::Reads, reads_percent),
            (Stage::Compression, compression_percent),
            (Stage::Writing, writing_percent),
        ];
        let busiest = stages.into_iter().max_by_key(|(_, percent)| *percent);
        let bottleneck = busiest.map_or(Stage::Reads, |(stage, _)| stage);
        Self { bottleneck, reads_percent, compression_percent, writing_percent, took }
    }
}

impl fmt::Display for Stages {
    /// `bottleneck: compression (guest reads 41 %, compression 97 %, writing 30 % busy)`. Where so little was copied that
    /// no stage was busy, none held up the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads_percent, compression_percent, writing_percent, .. } = self;
        let most = *reads_percent.max(compression_percent).max(writing_percent);
        let bottleneck = match self.bottleneck {
            _ if most < BUSY_PERCENT => "none",
            Stage::Reads => "guest reads",
            Stage::Compression => "compression",
            Stage::Writing => "writing",
        };
        write!(
            f,
            "bottleneck: {bottleneck} (guest reads {reads_percent} %, compression {compression_percent} %, writing \
             {writing_percent} % busy)"
        )
    }
}

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
    fn the_busiest_stage_is_the_bottleneck() {
        let second = Duration::from_secs(1);
        for (percents, want) in
            [([90, 40, 30], Stage::Reads), ([40, 90, 30], Stage::Compression), ([40, 30, 90], Stage::Writing)]
        {
            let [reads, compression, writing] = percents;
            assert_eq!(Stages::new(reads, compression, writing, second).bottleneck, want);
        }
        assert_eq!(
            Stages::new(41, 97, 30, second).to_string(),
            "bottleneck: compression (guest reads 41 %, compression 97 %, writing 30 % busy)"
        );
        let idle = Stages::new(1, 0, 14, second).to_string();
        assert!(idle.starts_with("bottleneck: none (guest reads 1 %"), "{idle}");
    }

    #[test]
    fn work_before_the_copy_does_not_count() {
        let hour = Duration::from_secs(3600);
        let meter = Meter::begin(hour);
        meter.writing.add(hour);
        let stages = meter.end(hour, 2);
        assert_eq!((stages.reads_percent, stages.compression_percent, stages.writing_percent), (0, 0, 100));
    }
}
