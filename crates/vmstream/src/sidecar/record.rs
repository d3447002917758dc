//! The body of a sidecar: chunks of block records and of granule runs.
//!
//! Every chunk is 12 bytes and a payload: four letters that say what it holds, the payload's bytes, its CRC-32.

use super::granule::{Granules, Value};
use super::sums::{PlainSums, StoredSums};
use crate::stream::Piece;
use std::ops::Range;

/// Bytes before a chunk's payload.
pub(super) const CHUNK_HEAD: usize = 12;

/// A payload is never longer.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;

pub(super) const BLOCKS: [u8; 4] = *b"blks";
pub(super) const RUNS: [u8; 4] = *b"gran";

/// Bytes of a block record.
pub(super) const BLOCK_LEN: usize = 32;

/// Bytes of a run before its sums.
const RUN_HEAD: usize = 16;

/// One stored block of a stream: an LZ4 frame, or up to 4 MiB of an uncompressed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where its content begins on the disk.
    pub start: u64,
    /// Bytes of content; at least 1.
    pub plain_len: u32,
    /// Where it is stored in the stream's file.
    pub stored_at: u64,
    /// Bytes stored.
    pub stored_len: u32,
    /// CRC-32 of the content.
    pub plain_crc32: u32,
    /// CRC-32 of the bytes stored.
    pub stored_crc32: u32,
}

impl Block {
    /// A block with these sums. `None` for lengths that no block has.
    pub fn new(
        (start, plain_len): (u64, u64),
        (stored_at, stored_len): (u64, u64),
        plain: &PlainSums,
        stored: &StoredSums,
    ) -> Option<Self> {
        Some(Self {
            start,
            plain_len: u32::try_from(plain_len).ok()?,
            stored_at,
            stored_len: u32::try_from(stored_len).ok()?,
            plain_crc32: plain.crc32,
            stored_crc32: stored.crc32,
        })
    }

    /// The range of the disk.
    pub fn disk(&self) -> Range<u64> {
        self.start..self.start + u64::from(self.plain_len)
    }

    /// True for the block of this piece.
    pub(crate) fn is_of(&self, piece: &Piece) -> bool {
        self.disk() == piece.disk
            && self.stored_at == piece.stored_at
            && u64::from(self.stored_len) == piece.stored_len
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.start.to_le_bytes());
        out.extend(self.stored_at.to_le_bytes());
        for number in [self.plain_len, self.stored_len, self.plain_crc32, self.stored_crc32] {
            out.extend(number.to_le_bytes());
        }
    }

    pub(super) fn parse(bytes: &[u8; BLOCK_LEN]) -> Option<Self> {
        let block = Self {
            start: long(bytes, 0)?,
            stored_at: long(bytes, 8)?,
            plain_len: word(bytes, 16)?,
            stored_len: word(bytes, 20)?,
            plain_crc32: word(bytes, 24)?,
            stored_crc32: word(bytes, 28)?,
        };
        let fits = block.start.checked_add(block.plain_len.into()).is_some()
            && block.stored_at.checked_add(block.stored_len.into()).is_some();
        (fits && block.plain_len > 0).then_some(block)
    }
}

/// Neighbouring granules of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the first.
    pub first: u64,
    /// What they hold.
    pub kind: RunKind,
}

/// What the granules of a run hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// So many granules with the sum of zeros.
    Zero(u32),
    /// The CRC-32 of each.
    Known(Vec<u32>),
    /// So many granules of which nothing is known.
    Unknown(u32),
}

impl Run {
    /// Number of granules.
    pub fn count(&self) -> u64 {
        match &self.kind {
            RunKind::Zero(count) | RunKind::Unknown(count) => (*count).into(),
            RunKind::Known(sums) => sums.len() as u64,
        }
    }

    /// How many of them have a sum of their own here.
    pub(crate) fn sums(&self) -> u64 {
        if let RunKind::Known(sums) = &self.kind { sums.len() as u64 } else { 0 }
    }

    /// The granules' numbers.
    pub fn numbers(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.count())
    }

    /// What a granule of the run holds.
    pub fn value(&self, number: u64, granules: Granules) -> Value {
        match &self.kind {
            RunKind::Zero(_) => Value::Known(granules.zero_sum(number)),
            RunKind::Unknown(_) => Value::Unknown,
            RunKind::Known(sums) => {
                let place = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                place.and_then(|at| sums.get(at)).map_or(Value::Unknown, |sum| Value::Known(*sum))
            }
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, count, sums): (u32, u32, &[u32]) = match &self.kind {
            RunKind::Zero(count) => (0, *count, &[]),
            RunKind::Known(sums) => (1, sums.len() as u32, sums),
            RunKind::Unknown(count) => (2, *count, &[]),
        };
        out.extend(self.first.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(kind.to_le_bytes());
        sums.iter().for_each(|sum| out.extend(sum.to_le_bytes()));
    }

    /// Takes a run off the front of a payload.
    pub(super) fn parse(payload: &mut &[u8]) -> Option<Self> {
        let (head, rest) = payload.split_at_checked(RUN_HEAD)?;
        let (first, count, kind) = (long(head, 0)?, word(head, 8)?, word(head, 12)?);
        first.checked_add(count.into()).filter(|_| count > 0)?;
        let (kind, rest) = match kind {
            0 => (RunKind::Zero(count), rest),
            1 => {
                let (sums, rest) = rest.split_at_checked(usize::try_from(count).ok()?.checked_mul(4)?)?;
                let sums = sums.chunks_exact(4).filter_map(|sum| word(sum, 0)).collect();
                (RunKind::Known(sums), rest)
            }
            2 => (RunKind::Unknown(count), rest),
            _ => return None,
        };
        *payload = rest;
        Some(Self { first, kind })
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
