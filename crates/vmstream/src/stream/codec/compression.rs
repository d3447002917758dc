//! What the payloads of a stream can be compressed with, and why a piece cannot.

use std::fmt;

/// The most plain bytes that one stored piece may hold: the NBD maximum request size.
///
/// Readers choose the form of a trailer entry by it, so it is part of the format.
pub const MAX_PIECE_LEN: u64 = 33_554_432;

/// How the payloads of a compressed stream are stored, with the level as its meta text states it.
///
/// Readers need the method only: frames of several levels may stand in one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// LZ4 frames. Levels 0 and 1 are fast, 2 a little denser, 3 to 12 slow and dense (higher ones count as 12).
    Lz4(u32),
    /// zstd frames (RFC 8878), levels 1 to 22. Old readers cannot read them.
    Zstd(u32),
}

impl Compression {
    /// The method's name as meta text and people have it: `lz4` or `zstd`.
    pub fn method(self) -> &'static str {
        match self {
            Self::Lz4(_) => "lz4",
            Self::Zstd(_) => "zstd",
        }
    }

    /// The level.
    pub fn level(self) -> u32 {
        match self {
            Self::Lz4(level) | Self::Zstd(level) => level,
        }
    }
}

impl fmt::Display for Compression {
    /// `lz4 level 4`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} level {}", self.method(), self.level())
    }
}

/// Why a piece could not be written or read back.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The library refused to compress.
    #[error("Cannot compress {plain_len} bytes with {compression}")]
    Compress {
        /// Bytes given.
        plain_len: usize,
        /// What was asked for.
        compression: Compression,
        /// What the library said.
        source: std::io::Error,
    },
    /// More plain bytes asked for than a piece can hold.
    #[error("A piece of {plain_len} bytes is larger than the format allows ({MAX_PIECE_LEN})")]
    TooLarge {
        /// Bytes asked for.
        plain_len: usize,
    },
    /// The bytes are no frame of the stream's method, or a checksum inside it does not fit.
    #[error("The compressed frame of {stored_len} bytes is damaged")]
    Damaged {
        /// Bytes stored.
        stored_len: usize,
        /// What the library said.
        source: std::io::Error,
    },
    /// The frame is whole, but holds another number of bytes.
    #[error("The compressed frame holds {found} bytes where {want} belong")]
    WrongLength {
        /// Bytes the frame header on disk promises.
        want: usize,
        /// `fewer than` or `more than`, with the count that is certain.
        found: String,
    },
    /// The frame ends before the stored bytes do.
    #[error("The compressed frame ends {extra} bytes before its place in the stream does")]
    TrailingBytes {
        /// Stored bytes left over.
        extra: usize,
    },
    /// The stored bytes end in the middle of the frame.
    #[error("The compressed frame of {stored_len} bytes is cut off")]
    CutOff {
        /// Bytes stored.
        stored_len: usize,
    },
}
