//! What a conversion wrote, for the caller to show.

use crate::chain::{DiskTarget, PointId, UnusedSidecar};

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// The points of the new set, oldest first.
    pub points: Vec<PointId>,
    /// Its streams.
    pub streams: Vec<ConvertedStream>,
    /// Raw images that were copied as they are.
    pub raw_images: Vec<RawCopy>,
    /// Sidecars of the old set that prove nothing: the new ones know less.
    pub unused_sidecars: Vec<UnusedSidecar>,
    /// What speaks against the files that a full was made of all the same: they are of another backup, or may be. Its sidecar claims
    /// nothing of a disk whose newest stream is one of them, nor does that of an image which is.
    pub passed_over: Vec<String>,
    /// The point was put together from increments that may have lost changes when virtnbdbackup wrote them. The new
    /// full has the same content, and nothing in it tells.
    pub suspect: bool,
}

/// One stream that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertedStream {
    /// Its file name.
    pub file: String,
    /// Whose content.
    pub disk: DiskTarget,
    /// Bytes of the streams it was made of.
    pub source_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Bytes of its data frames.
    pub data_bytes: u64,
    /// Streams it was made of whose content nothing proves: no checksum file, and no sidecar.
    pub unproven: Vec<String>,
}

/// One raw image that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCopy {
    /// Its file name.
    pub file: String,
    /// Whose content.
    pub disk: DiskTarget,
    /// When it was taken: with the full, whatever point was asked for.
    pub taken: PointId,
    /// Its sidecar says that it is what was backed up. Without one nothing does.
    pub proven: bool,
}
