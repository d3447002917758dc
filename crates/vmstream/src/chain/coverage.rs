//! Where a chain holds data: the ranges that some stream has as `data` frames.
//!
//! Built from frame headers alone. An increment must write zeros as data exactly there.

use crate::stream::{FrameKind, StreamError, StreamFile};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Disjoint, merged ranges of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Start to end. No two touch.
    ranges: BTreeMap<u64, u64>,
}

/// A stream of the chain could not be walked, so what the chain holds is unknown.
#[derive(Debug, thiserror::Error)]
#[error("Cannot tell what {} holds", path.display())]
pub struct CoverageError {
    /// The stream.
    pub path: PathBuf,
    /// Why.
    pub source: StreamError,
}

impl Coverage {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where any of the streams has data frames. Order does not matter.
    ///
    /// # Errors
    /// [`CoverageError`] at the first stream that cannot be opened or walked to its end.
    pub fn of_streams<P: AsRef<Path>>(paths: &[P]) -> Result<Self, CoverageError> {
        let mut coverage = Self::new();
        for path in paths {
            let path = path.as_ref();
            coverage.add_stream(path).map_err(|source| CoverageError { path: path.to_owned(), source })?;
        }
        Ok(coverage)
    }

    fn add_stream(&mut self, path: &Path) -> Result<(), StreamError> {
        for frame in StreamFile::open(path)?.frames() {
            let frame = frame?;
            if frame.header.kind == FrameKind::Data {
                self.insert(frame.disk());
            }
        }
        Ok(())
    }

    /// Adds a range; an empty one adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back() {
            if before_end >= start {
                start = before;
                end = end.max(before_end);
            }
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..=end).next() {
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// The parts of `range` that are covered, in order.
    pub fn intersect(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.ranges.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        // An empty or reversed range asks for nothing; BTreeMap would panic on a reversed one.
        let to = range.end.max(from);
        self.ranges.range(from..to).filter_map(move |(start, end)| {
            let part = range.start.max(*start)..range.end.min(*end);
            (part.start < part.end).then_some(part)
        })
    }

    /// All ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }

    /// Bytes covered.
    pub fn total_bytes(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random inserts against one bit per byte of a tiny disk.
    #[test]
    fn equals_a_bitmap() {
        let mut numbers = random::Random::from_seed(0x1234_5678_9abc_def1);
        let mut random = |below: u64| numbers.below(below);
        for _ in 0..300 {
            let (mut coverage, mut bitmap) = (Coverage::new(), [false; 64]);
            for _ in 0..random(12) {
                let start = random(64);
                let end = (start + random(10)).min(64);
                coverage.insert(start..end);
                bitmap[start as usize..end as usize].fill(true);
            }
            let mut merged = [false; 64];
            let mut last_end = None;
            for range in coverage.ranges() {
                assert!(range.start < range.end && last_end.is_none_or(|end| end < range.start));
                last_end = Some(range.end);
                merged[range.start as usize..range.end as usize].fill(true);
            }
            assert_eq!(merged, bitmap);
            let start = random(64);
            let range = start..start + random(20);
            let mut part = [false; 84];
            for found in coverage.intersect(range.clone()) {
                part[found.start as usize..found.end as usize].fill(true);
            }
            let want: Vec<bool> =
                (0..84).map(|at| range.contains(&at) && at < 64 && bitmap[at as usize]).collect();
            assert_eq!(part.to_vec(), want);
        }
    }
}
