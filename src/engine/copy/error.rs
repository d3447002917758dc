//! Why a disk could not be copied.

use std::io;
use std::path::PathBuf;

use super::extent::ExtentError;
use crate::engine::cancel::StopReason;
use vmhost::nbd::NbdError;
use vmstream::causes::with_causes;

/// A place where a disk is not what the chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    pub target: String,
    /// Offset on the disk.
    pub at: u64,
}

/// Why a disk could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The export could not be opened or read.
    #[error("Cannot read disk {target}: {}", with_causes(source))]
    Read { target: String, source: Box<NbdError> },
    /// The server's block status makes no sense.
    #[error("Cannot tell what to read of disk {target}: {source}")]
    Extents {
        target: String,
        /// What is wrong with it.
        source: ExtentError,
    },
    /// A frame could not be compressed.
    #[error("Cannot compress a frame of disk {target} at offset {at}: {source}")]
    Compress {
        target: String,
        /// Offset on the disk.
        at: u64,
        /// What the library said.
        source: vmstream::stream::codec::CodecError,
    },
    /// The file in the target could not be written.
    #[error("Cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier stream of the chain could not be read.
    #[error("Cannot tell where the chain holds data of disk {target}: {message}")]
    Chain {
        target: String,
        /// What is wrong with it.
        message: String,
    },
    /// A write did not come back for so long that it will not.
    #[error(
        "Disk {target}: a write to {} has not come back for {seconds} s: the storage of BACKUP_PATH hangs. The backup job was \
         ended, so that the guest goes on without it", path.display()
    )]
    StalledWrite { target: String, path: PathBuf, seconds: u64 },
    /// The disk is not what the chain says.
    #[error("{}", tripped(.0))]
    Tripped(Trip),
    /// Nothing moved for so long that nothing will.
    #[error("Disk {target}: nothing was read for {seconds} s; QEMU or the storage of the image hangs")]
    Stalled { target: String, seconds: u64 },
    /// Somebody asked for a stop.
    #[error("{0}")]
    Stopped(#[from] StopReason),
}

fn tripped(trip: &Trip) -> String {
    let Trip { target, at } = trip;
    format!(
        "Disk {target} is at offset {at} not what the last restore point holds, and nothing says that it changed: the bitmap missed a \
         change, or the image changed beneath QEMU"
    )
}
