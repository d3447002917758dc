//! Why a part of a disk cannot be read.

use crate::chain::PointId;
use crate::restore::MapError;
use crate::sidecar::SidecarError;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why bytes of a disk are not there. Nothing that was put into the caller's buffer means anything then.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The range ends behind the disk.
    #[error("{len} bytes from {offset} on pass the end of the disk of {size} bytes")]
    PastEnd {
        /// Where it begins.
        offset: u64,
        /// Its bytes.
        len: u64,
        /// Bytes of the disk.
        size: u64,
    },
    /// The stream, or the sidecar, that has them is damaged or cannot be read. The cause names frame, file offset and the
    /// range of the disk that is lost.
    #[error("Disk bytes {}..{} cannot be had from {point}", disk.start, disk.end)]
    Layer {
        /// What was asked for.
        disk: Range<u64>,
        /// The point whose stream it is.
        point: PointId,
        /// Which file, and why.
        source: MapError,
    },
    /// A raw image is not what its sidecar says.
    #[error("The raw image {} is not as it was backed up at {point}: disk bytes {}..{} differ", path.display(), disk.start, disk.end)]
    RawContent {
        /// The granule that differs.
        disk: Range<u64>,
        /// When it was copied.
        point: PointId,
        /// The image.
        path: PathBuf,
    },
    /// A raw image cannot be read.
    #[error("Cannot read disk bytes {}..{} of the raw image {}", disk.start, disk.end, path.display())]
    Raw {
        /// What was asked for.
        disk: Range<u64>,
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The sidecar of a raw image cannot be read any more.
    #[error("Cannot read what the sidecar of the raw image {} says of it", path.display())]
    RawSidecar {
        /// The image.
        path: PathBuf,
        /// Why.
        source: SidecarError,
    },
}

impl DiskError {
    /// True when the backup is damaged; false when a file could not be read, or something was asked for that is not there.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Layer { source, .. } => matches!(source.source, crate::stream::StreamError::Damaged(_)),
            Self::RawContent { .. } => true,
            Self::PastEnd { .. } | Self::Raw { .. } | Self::RawSidecar { .. } => false,
        }
    }
}
