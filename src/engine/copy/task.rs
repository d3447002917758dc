//! What is to be copied of one disk, from where, and into what: decided before anything is read.

use std::path::{Path, PathBuf};

use vmstream::sidecar::{Digest, Granules};
use vmstream::stream::{Compression, StreamMeta};

use super::tripwire::TripwirePlan;
use vmhost::nbd::Export;

/// What to copy, and into what.
pub struct DiskTask {
    /// Disk target, for messages.
    pub target: String,
    /// Name of the file once it is published.
    pub file: String,
    /// Where to read.
    pub export: Export,
    /// The meta context of the dirty bitmap, for the changes only.
    pub bitmap: Option<String>,
    /// What to write.
    pub sink: SinkPlan,
    /// The sidecar to write with it.
    pub sidecar: SidecarPlan,
    /// Streams of the chain so far that hold data of this disk: where one does, zeroes must be written as data.
    pub earlier_streams: Vec<PathBuf>,
    /// What the chain knows of the disk, to notice what the bitmap does not tell.
    pub tripwire: Option<TripwirePlan>,
}

/// The sidecar of a disk's file.
#[derive(Clone, Debug)]
pub struct SidecarPlan {
    /// Its name once it is published.
    pub file: String,
    /// The file, `….partial`.
    pub path: PathBuf,
    /// The checkpoint whose changes the stream holds; `None` when it holds the whole disk.
    pub parent: Option<String>,
    /// The digest of the parent's sidecar, where there is one.
    pub parent_digest: Option<Digest>,
}

/// What is to be written.
pub enum SinkPlan {
    /// A sparse stream.
    Stream {
        /// The file, `….partial`.
        path: PathBuf,
        /// Its meta frame; the sum of data is filled in.
        meta: StreamMeta,
    },
    /// A raw image with holes where the disk is zero.
    RawImage {
        /// The file, `….partial`.
        path: PathBuf,
        /// Bytes of the disk.
        size: u64,
    },
}

impl SinkPlan {
    pub fn path(&self) -> &Path {
        match self {
            Self::Stream { path, .. } | Self::RawImage { path, .. } => path,
        }
    }

    /// Bytes of the disk.
    pub(super) fn disk_size(&self) -> u64 {
        match self {
            Self::Stream { meta, .. } => meta.virtual_size,
            Self::RawImage { size, .. } => *size,
        }
    }

    /// A stream of the whole disk, not of changes.
    pub(super) fn stands_alone(&self) -> bool {
        matches!(self, Self::Stream { meta, .. } if !meta.incremental)
    }

    /// How the disk is cut for its sidecar.
    pub(super) fn granules(&self) -> Granules {
        Granules::of_disk(self.disk_size())
    }

    /// How frames are stored.
    pub(super) fn compression(&self) -> Option<Compression> {
        match self {
            Self::Stream { meta, .. } => meta.compression,
            Self::RawImage { .. } => None,
        }
    }
}
