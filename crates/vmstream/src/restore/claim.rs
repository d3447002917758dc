//! Sizes that a file claims and nothing backs: it costs nothing to call a disk an exbibyte large.
//!
//! A file takes holes, so a disk of any size goes into one at once. Who must meet each byte, or a checksum of each MiB,
//! needs time for the size, and so believes it up to a bound only.

use super::map::Layer;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Disks up to this size are believed: 64 TiB, which takes minutes.
const ALWAYS: u64 = 64 << 40;

/// Larger ones when each stored byte stands for no more than so many of the disk.
const SPARSEST: u64 = 64 << 10;

/// A disk that claims more bytes than anybody can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The disk claims {size} bytes, of which {stored} are stored: too many to meet each of them. vmstream extract to a \
     file, raw or qcow2, leaves out what is not stored"
)]
pub struct Claim {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of its files.
    pub stored: u64,
}

/// Whether a disk of `size` bytes, of which so many are stored, can be walked through.
pub(crate) fn check(size: u64, stored: u64) -> Result<(), Claim> {
    let believed = size <= ALWAYS || size / SPARSEST <= stored;
    if believed { Ok(()) } else { Err(Claim { size, stored }) }
}

/// The same of the disk that layers make up.
pub(crate) fn check_layers(size: u64, layers: &[Layer]) -> Result<(), Claim> {
    check(size, layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.stream.file_len())))
}

/// Bytes that a file takes on its disk, without its holes; 0 when that cannot be told.
pub(crate) fn allocated(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.blocks().saturating_mul(512))
}
