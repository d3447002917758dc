//! Frames as a reader meets them, and the pieces that can be read on their own.

use super::codec::MAX_PIECE_LEN;
use super::error::{Problem, StreamError};
use super::frame::FrameHeader;
use std::ops::Range;

/// A `data` or `zero` frame. Its bounds were checked against disk and file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Counted from 0 after the meta frame.
    pub index: u64,
    /// Kind and disk range.
    pub header: FrameHeader,
    /// Offset of the payload in the file.
    pub stored_at: u64,
    /// How the payload is stored. `Plain` for `zero` frames, which have none.
    pub stored: Stored,
}

/// How the payload of a data frame is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As it is.
    Plain,
    /// As compressed frames, one after the other, each of [`MAX_PIECE_LEN`] content bytes except the last.
    Compressed {
        /// LZ4 or zstd.
        coding: Coding,
        /// Their stored lengths.
        pieces: Vec<u64>,
    },
}

/// How the bytes of a piece are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Plain,
    /// As one LZ4 frame.
    Lz4,
    /// As one zstd frame.
    Zstd,
}

impl Coding {
    /// Whether so many stored bytes can hold so much content. LZ4 shrinks by less than 256; zstd spends at least four
    /// bytes on each 128 KiB. Both grow by little.
    pub(crate) fn allows(self, stored_len: u64, plain_len: u64) -> bool {
        let least = match self {
            Self::Plain => plain_len,
            Self::Lz4 => plain_len / 256,
            Self::Zstd => plain_len / (32 << 10),
        };
        stored_len > 0 && stored_len >= least && stored_len <= plain_len + plain_len / 64 + 4096
    }
}

/// A part of a data frame that is read and decoded at once: at most [`MAX_PIECE_LEN`] content bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The frame it belongs to. `None` where a sidecar told of it: only a walk over the frames counts them.
    pub frame: Option<u64>,
    /// The range of the disk it holds.
    pub disk: Range<u64>,
    /// Offset in the file.
    pub stored_at: u64,
    /// Bytes in the file.
    pub stored_len: u64,
    /// How they are stored.
    pub coding: Coding,
    /// CRC-32 of the content, where somebody knows it: then it is held against it when it is read.
    pub plain_crc32: Option<u32>,
}

impl Piece {
    /// Content bytes of one piece of an uncompressed frame: small enough for many threads, large enough to stream.
    pub(crate) const PLAIN_LEN: u64 = 4 << 20;

    pub(crate) fn damaged(&self, problem: Problem) -> StreamError {
        StreamError::damaged(self.frame, self.stored_at, Some(self.disk.clone()), problem)
    }
}

impl Frame {
    /// The range of the disk the frame describes.
    pub fn disk(&self) -> Range<u64> {
        // Cannot overflow: the walk that made this frame checked it against the disk's size.
        self.header.start..self.header.start + self.header.len
    }

    /// Number of pieces. Only for data frames.
    pub fn piece_count(&self) -> u64 {
        match &self.stored {
            Stored::Plain => self.header.len.div_ceil(Piece::PLAIN_LEN),
            Stored::Compressed { pieces, .. } => pieces.len() as u64,
        }
    }

    /// The pieces of a data frame, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let mut stored_at = self.stored_at;
        (0..self.piece_count()).map(move |number| {
            let piece = self.piece(number, stored_at);
            stored_at += piece.stored_len;
            piece
        })
    }

    /// Piece `number`, whose payload starts at `stored_at`. Lets a walk hold its place without a borrow.
    pub(crate) fn piece(&self, number: u64, stored_at: u64) -> Piece {
        let (plain_len, coding) = match &self.stored {
            Stored::Plain => (Piece::PLAIN_LEN, Coding::Plain),
            Stored::Compressed { coding, .. } => (MAX_PIECE_LEN, *coding),
        };
        let start = self.header.start + number * plain_len;
        // Not `start + plain_len`: a disk may end at the last offset there is.
        let end = start + plain_len.min(self.disk().end - start);
        let stored_len = match &self.stored {
            Stored::Plain => end - start,
            Stored::Compressed { pieces, .. } => pieces[number as usize],
        };
        Piece { frame: Some(self.index), disk: start..end, stored_at, stored_len, coding, plain_crc32: None }
    }
}
