//! The checksums of one block, made where its bytes are in a core's cache.

use super::crc;
use super::granule::Granules;
use crate::stream::checksum::adler32;

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// Checksums of bytes as a stream stores them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSums {
    /// Adler-32, for the stream's checksum file.
    pub adler32: u32,
    /// CRC-32.
    pub crc32: u32,
    /// BLAKE3, for the stream's digest.
    pub digest: Digest,
}

impl StoredSums {
    /// Sums these bytes.
    pub fn of(stored: &[u8]) -> Self {
        Self { adler32: adler32(stored), crc32: crc32fast::hash(stored), digest: blake3::hash(stored).into() }
    }
}

/// Sums of one MiB of a disk, from which those of its granules follow whatever their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartSums([u32; (PartSums::LEN / PartSums::PART_LEN) as usize]);

impl PartSums {
    /// Bytes of the disk, from its start on, that are summed together.
    pub(crate) const LEN: u64 = 1 << 20;

    /// The smallest granule, of which any other is made.
    pub(crate) const PART_LEN: u64 = 64 << 10;

    /// Sums the content of a MiB; the disk's last one may be shorter.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self::join(content.chunks(Self::PART_LEN as usize).map(Self::part))
    }

    /// Sums one part of it; the disk's last one may be shorter.
    pub(crate) fn part(content: &[u8]) -> u32 {
        crc::swap_form(crc32fast::hash(content), content.len() as u64)
    }

    /// The sums of these parts.
    pub(crate) fn join(parts: impl Iterator<Item = u32>) -> Self {
        let mut sums = Self::default();
        sums.0.iter_mut().zip(parts).for_each(|(sum, part)| *sum = part);
        sums
    }

    /// The CRC-32 of a granule, from the sums of every MiB of the disk from `start` on, a multiple of 32 MiB.
    pub(crate) fn granule<'a>(
        granules: Granules,
        number: u64,
        start: u64,
        sums_at: impl Fn(usize) -> Option<&'a Self>,
    ) -> Option<u32> {
        let range = granules.range(number);
        let (mut remainder, mut at) = (0, range.start);
        while at < range.end {
            let place = at.checked_sub(start)?;
            let part =
                sums_at((place / Self::LEN) as usize)?.0[(place % Self::LEN / Self::PART_LEN) as usize];
            let end = range.end.min(at + Self::PART_LEN);
            remainder ^= crc::shift(part, range.end - end);
            at = end;
        }
        Some(crc::swap_form(remainder, range.end - range.start))
    }
}

/// Checksums of a range of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainSums {
    /// CRC-32 of all of it.
    pub crc32: u32,
    /// What it adds to each granule that it touches, in order.
    pub(super) remainders: Vec<u32>,
}

impl PlainSums {
    /// Sums of so many zeros, for a frame without content of its own ([`Recorder::frame`](super::Recorder::frame)).
    pub fn of_zeros(len: u64) -> Self {
        Self { crc32: crc::of_zeros(len), remainders: Vec::new() }
    }

    /// Sums the content of a disk from `start` on, reading it once.
    pub fn of(start: u64, plain: &[u8], granules: Granules) -> Self {
        let end = start + plain.len() as u64;
        let (mut whole, mut remainders) = (0, Vec::new());
        for (number, remainder) in granules.remainders(start, plain) {
            // Moved by what lies behind in the granule; the whole wants it moved by what lies behind in the content.
            let granule_end = granules.range(number).end;
            whole ^= match end.checked_sub(granule_end) {
                Some(behind) => crc::shift(remainder, behind),
                None => crc::shift_back(remainder, granule_end - end),
            };
            remainders.push(remainder);
        }
        Self { crc32: crc::swap_form(whole, plain.len() as u64), remainders }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_sum_follows_from_the_granules() {
        let granules = Granules::of_disk(1 << 20);
        let plain: Vec<u8> = (0..300_000u32).map(|i| (i % 241) as u8).collect();
        for (start, len) in
            [(0, 300_000), (1, 70_000), (65_535, 2), (65_536, 65_536), (4096, 8), (700_000, 0)]
        {
            let sums = PlainSums::of(start, &plain[..len], granules);
            assert_eq!(sums.crc32, crc32fast::hash(&plain[..len]), "{start}+{len}");
        }
    }
}
