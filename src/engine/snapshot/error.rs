//! Why the moment of a point could not be had.

use std::path::PathBuf;

use crate::engine::cancel::StopReason;
use crate::engine::claims::ClaimError;
use crate::engine::failure::FileError;
use crate::engine::image::qemu_img::QemuImgError;
use vmhost::libvirt::LibvirtError;

/// Why the moment of a point could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A libvirt call failed.
    #[error("{0}")]
    Libvirt(#[from] LibvirtError),
    /// The guest could not be paused.
    #[error("{0}")]
    Pause(LibvirtError),
    /// What would be claimed could not be told.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A scratch file could not be made.
    #[error("{0}")]
    QemuImg(#[from] QemuImgError),
    /// Too little space for scratch files.
    #[error(
        "Too little space in scratch directory {}: {free} free, {reserve} kept in reserve. Free some space, or set \
         VIRTNBD_SCRATCH_DIR to a larger file system", dir.display()
    )]
    ScratchSpace { dir: PathBuf, reserve: String, free: String },
    /// Scratch files could not be made now, or not in time.
    #[error(
        "Scratch directory {} cannot be used: {why}. The guest was not held, and its backup was not begun. Look at that \
         storage, or point VIRTNBD_SCRATCH_DIR at a local directory", dir.display()
    )]
    Scratch {
        dir: PathBuf,
        /// What a try came to.
        why: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Stopped(#[from] StopReason),
}
