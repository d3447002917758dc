//! Why an image could not be read, or asked about.

use super::qemu_img::QemuImgError;
use crate::engine::cancel::StopReason;
use crate::engine::failure::FileError;
use vmhost::libvirt::LibvirtError;

/// Why an image could not be read, or asked about.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// qemu-img is needed for what it tells of images.
    #[error("{0}")]
    QemuImg(#[from] QemuImgError),
    /// An encrypted image whose key nobody gets.
    #[error(
        "Disk {target} is encrypted, and while the VM is shut off it can be read only with its key: {source}. A secret with \
         private='yes' is given to QEMU alone: back the VM up while it runs, or define the secret with private='no'"
    )]
    NoKey { target: String, source: LibvirtError },
    /// A disk of a domain that is shut off, of which only QEMU under libvirt can tell the content.
    #[error(
        "Disk {target} cannot be read while the VM is shut off: by its definition {what}. Back the VM up while it runs"
    )]
    NotReadable {
        target: String,
        /// What stands in the way.
        what: String,
    },
    /// qemu-nbd could not be started.
    #[error("Cannot read the disks of a VM that is shut off: {message}")]
    QemuNbd { message: String },
    /// A file could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Stopped(#[from] StopReason),
}
