//! Granules: the parts of a disk that a sidecar has a checksum of, and how their sums come together.

use super::crc;
use std::ops::Range;

/// Granules are never smaller: dirty bitmaps of the usual images count in these too.
const SMALLEST: u64 = 64 << 10;

/// Granules are never larger, so that a window of the disk holds whole ones.
const LARGEST: u64 = 32 << 20;

/// A table has no more granules than this as long as they may grow: 256 MiB of sums, for a disk of 4 TiB and more.
const MOST: u64 = 64 << 20;

/// A disk cut into granules: all of one size, the last one as long as the disk has bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granules {
    disk_size: u64,
    size: u64,
}

impl Granules {
    /// Those that a writer makes of a disk: 64 KiB up to 4 TiB, then as large as keeps the table at 256 MiB.
    pub fn of_disk(disk_size: u64) -> Self {
        let mut size = SMALLEST;
        while size < LARGEST && disk_size.div_ceil(size) > MOST {
            size *= 2;
        }
        Self { disk_size, size }
    }

    /// Those of a given size. `None` when that is no power of two between 64 KiB and 32 MiB.
    pub fn of_size(size: u64, disk_size: u64) -> Option<Self> {
        let allowed = size.is_power_of_two() && (SMALLEST..=LARGEST).contains(&size);
        allowed.then_some(Self { disk_size, size })
    }

    /// Bytes of every granule but the last.
    pub fn size(self) -> u64 {
        self.size
    }

    /// Bytes of the disk.
    pub fn disk_size(self) -> u64 {
        self.disk_size
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.disk_size.div_ceil(self.size)
    }

    /// True when a table of them may be held in memory. A sidecar's claim of more is not worth that.
    pub(super) fn may_be_held(self) -> bool {
        self.count() <= MOST
    }

    /// The range of the disk that a granule covers. `number` is below [`Granules::count`].
    pub fn range(self, number: u64) -> Range<u64> {
        let start = number.saturating_mul(self.size).min(self.disk_size);
        start..self.disk_size.min(start.saturating_add(self.size))
    }

    /// Bytes of a granule.
    pub fn len_of(self, number: u64) -> u64 {
        let range = self.range(number);
        range.end - range.start
    }

    /// The CRC-32 of a granule of zeros.
    pub fn zero_sum(self, number: u64) -> u32 {
        crc::of_zeros(self.len_of(number))
    }

    /// That of each granule, made once: for many of them.
    pub fn zero_sums(self) -> ZeroSums {
        let last = self.count().saturating_sub(1);
        ZeroSums { last, of_last: self.zero_sum(last), of_others: crc::of_zeros(self.size) }
    }

    /// The numbers of the granules that lie in a range of the disk whole.
    pub fn within(self, range: &Range<u64>) -> Range<u64> {
        let first = range.start.div_ceil(self.size);
        let end = if range.end >= self.disk_size { self.count() } else { range.end / self.size };
        first..end.max(first)
    }

    /// The numbers of the granules that a range of the disk touches.
    pub(crate) fn touched(self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / self.size..range.end.div_ceil(self.size)
    }

    /// What content from `start` on adds to the plain remainder of each granule that it touches, in order.
    pub(crate) fn remainders(self, start: u64, content: &[u8]) -> impl Iterator<Item = (u64, u32)> + '_ {
        let end = start + content.len() as u64;
        self.touched(&(start..end)).map(move |number| {
            let granule = self.range(number);
            let (from, to) = (granule.start.max(start), granule.end.min(end).max(granule.start.max(start)));
            let part = &content[(from - start) as usize..(to - start) as usize];
            let remainder = crc::swap_form(crc32fast::hash(part), to - from);
            (number, crc::shift(remainder, granule.end - to))
        })
    }
}

/// The CRC-32 that each granule has when it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroSums {
    last: u64,
    of_last: u32,
    of_others: u32,
}

impl ZeroSums {
    /// That of the granule with this number.
    pub fn of(self, number: u64) -> u32 {
        if number == self.last { self.of_last } else { self.of_others }
    }
}

/// What is known of a granule's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Its CRC-32. A granule of zeros has the sum that so many zeros have.
    Known(u32),
    /// Nothing.
    Unknown,
}

/// Puts granules together from content that comes in disk order.
#[derive(Debug)]
pub(super) struct Collector {
    granules: Granules,
    /// The granule that is being put together: its number, the bytes of it that came, their remainder.
    open: Option<(u64, u64, u32)>,
}

impl Collector {
    pub(super) fn new(granules: Granules) -> Self {
        Self { granules, open: None }
    }

    /// Takes a part of one granule. Gives back what came before, if that was another one.
    pub(super) fn part(&mut self, number: u64, bytes: u64, remainder: u32) -> Option<(u64, Value)> {
        match &mut self.open {
            Some((open, covered, sum)) if *open == number => {
                *covered += bytes;
                *sum ^= remainder;
                None
            }
            _ => {
                let done = self.close();
                self.open = Some((number, bytes, remainder));
                done
            }
        }
    }

    /// Ends the granule that is open. It is known when all of it came.
    pub(super) fn close(&mut self) -> Option<(u64, Value)> {
        let (number, covered, remainder) = self.open.take()?;
        let len = self.granules.len_of(number);
        let value = match covered == len {
            true => Value::Known(crc::swap_form(remainder, len)),
            false => Value::Unknown,
        };
        Some((number, value))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn granules_grow_with_the_disk() {
        for (disk, size) in [
            (0, 64 << 10),
            (4 << 40, 64 << 10),
            ((4 << 40) + 1, 128 << 10),
            (1 << 50, 16 << 20),
            (u64::MAX, LARGEST),
        ] {
            assert_eq!(Granules::of_disk(disk).size(), size, "{disk}");
        }
        for wrong in [0, 32 << 10, 96 << 10, 64 << 20] {
            assert_eq!(Granules::of_size(wrong, 1), None);
        }
    }

    #[test]
    fn the_last_granule_ends_with_the_disk() {
        let granules = Granules::of_disk(3 * SMALLEST + 512);
        assert_eq!((granules.count(), granules.len_of(2), granules.len_of(3)), (4, SMALLEST, 512));
        let end = u64::MAX;
        let granules = Granules::of_disk(end);
        assert_eq!(granules.range(granules.count() - 1).end, end);
    }

    #[test]
    fn zeros_have_one_sum_but_for_the_last_granule() {
        for size in [1000, SMALLEST, SMALLEST + 1, 3 * SMALLEST] {
            let granules = Granules::of_disk(size);
            let zeros = granules.zero_sums();
            for number in 0..granules.count() {
                assert_eq!(zeros.of(number), granules.zero_sum(number), "{number} of {size}");
            }
        }
    }

    #[test]
    fn only_whole_granules_lie_within_a_range() {
        let granules = Granules::of_disk(3 * SMALLEST + 1000);
        let end = granules.disk_size();
        for (range, want) in [
            (0..end, 0..4),
            (1..end, 1..4),
            (0..end - 1, 0..3),
            (SMALLEST..2 * SMALLEST, 1..2),
            (SMALLEST + 1..2 * SMALLEST, 2..2),
            (3 * SMALLEST..end, 3..4),
            (3 * SMALLEST + 1..end, 4..4),
            (5..10, 1..1),
        ] {
            assert_eq!(granules.within(&range), want, "{range:?}");
        }
    }

    #[test]
    fn parts_in_any_cut_give_the_granules_sum() {
        let granules = Granules::of_disk(2 * SMALLEST + 1000);
        let content: Vec<u8> = (0..granules.disk_size()).map(|i| (i * 7 % 251) as u8).collect();
        for step in [1000, 4096, 65_536, 100_000, 200_000] {
            let mut collector = Collector::new(granules);
            let mut found = Vec::new();
            for (index, part) in content.chunks(step).enumerate() {
                let start = (index * step) as u64;
                for (number, remainder) in granules.remainders(start, part) {
                    let range = granules.range(number);
                    let bytes = range.end.min(start + part.len() as u64) - range.start.max(start);
                    found.extend(collector.part(number, bytes, remainder));
                }
            }
            found.extend(collector.close());
            let want: Vec<_> = content
                .chunks(SMALLEST as usize)
                .enumerate()
                .map(|(number, bytes)| (number as u64, Value::Known(crc32fast::hash(bytes))))
                .collect();
            assert_eq!(found, want, "{step}");
        }
    }
}
