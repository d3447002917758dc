//! How to write a set again, as the caller says it.

use crate::chain::{PointId, StreamSuffix};
use crate::stream::writer::MAX_FRAME_LEN;
use crate::stream::{self, StreamMeta};
use std::num::NonZeroUsize;

/// How to write a set again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// How the new streams are stored.
    pub compression: Compression,
    /// Bytes of the disk in one data frame, at most. More than [`MAX_FRAME_LEN`] count as that, without compression more
    /// than 4 MiB as 4 MiB, so that a frame is one block of its sidecar.
    pub frame_len: u64,
    /// Make no full of streams that do not belong together, or that give another disk than was backed up. Of a set whose points
    /// stay nothing is made then in any case.
    pub check: bool,
    /// Threads. Each needs up to 64 MiB, for [`Shape::Full`] 160 MiB.
    pub workers: NonZeroUsize,
}

/// Content bytes of an uncompressed block, at most: part of the format of sidecars.
const PLAIN_BLOCK_LEN: u64 = 4 << 20;

impl ConvertOptions {
    /// The same, with frames that the format allows.
    pub(super) fn within_format(self) -> Self {
        let longest = match self.compression {
            Compression::None => PLAIN_BLOCK_LEN,
            Compression::Lz4(_) | Compression::Zstd(_) => MAX_FRAME_LEN,
        };
        Self { frame_len: self.frame_len.clamp(1, longest), ..self }
    }
}

/// What becomes of a set's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All of them stay.
    SamePoints,
    /// One new full, with the disks as they were at this point.
    Full(PointId),
}

/// How the content of streams is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// As LZ4 frames of this level: 1 and 2 are fast, 3 to 16 denser.
    Lz4(u32),
    /// As zstd frames of this level, 1 to 19. virtnbdrestore cannot read them, and does not see the streams.
    Zstd(u32),
}

impl Compression {
    /// How the new streams' names end.
    pub(super) fn suffix(self) -> StreamSuffix {
        StreamSuffix::of(self.of_stream())
    }

    pub(super) fn of_stream(self) -> Option<stream::Compression> {
        match self {
            Self::None => None,
            Self::Lz4(level) => Some(stream::Compression::Lz4(level)),
            Self::Zstd(level) => Some(stream::Compression::Zstd(level)),
        }
    }

    /// Says in a meta text how the content is stored, in the form of today.
    pub(super) fn describe(self, meta: &mut StreamMeta) {
        meta.compression = self.of_stream();
        meta.stream_version = StreamMeta::version_for(meta.compression);
    }
}
