//! Why a domain could not be looked at, or may not be backed up as it is.

use std::path::PathBuf;

use crate::engine::cancel::StopReason;
use crate::engine::domain::facts::DomainXmlError;
use crate::engine::failure::{Changed, FileError};
use crate::engine::image::ImageError;
use crate::engine::image::qemu_img::QemuImgError;
use vmhost::libvirt::LibvirtError;

/// Why a domain could not be looked at, or may not be backed up as it is.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// A libvirt call failed.
    #[error("{0}")]
    Libvirt(#[from] LibvirtError),
    /// The domain's XML makes no sense.
    #[error("{0}")]
    DomainXml(#[from] DomainXmlError),
    /// A domain whose memory was brought to it, and that was not resumed since.
    #[error(
        "VM {domain} is paused since its memory came from a file (virsh managedsave, virsh save) or from another host, or still \
         comes: until it is resumed QEMU keeps its images closed, so they cannot be read and their bitmaps look lost. Nothing was \
         changed. Let it run: virsh resume '{domain}'; it may be paused again then. If a migration is under way, wait for its end"
    )]
    NotResumed { domain: String },
    /// A volume of a storage pool has no path.
    #[error("Cannot find the image of disk {target}: {source}. {}", mend_pool(pool, *is_active))]
    Volume {
        target: String,
        pool: String,
        /// `None` where libvirt does not tell.
        is_active: Option<bool>,
        source: LibvirtError,
    },
    /// An image, or one that backs it, does not exist.
    #[error(
        "Disk {target} has no image: {message}. Put it back, or mount the file system it is on; a disk that is not needed any more: \
         virsh detach-disk '{domain}' {target} --config"
    )]
    NoImage { domain: String, target: String, message: String },
    /// The system could not read a file of the chain.
    #[error(
        "Cannot read {}, again and again: {message}. That says nothing about what is in it, so the chain is kept as it is and \
         this backup is not made. Look at the storage of BACKUP_PATH", path.display()
    )]
    ChainUnreadable {
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// Somebody else writes to a disk of a domain that is shut off here.
    #[error(
        "VM {domain} is shut off here, and its disk {target} ({}) is in use by {by}: a copy would be torn. Nothing was copied. \
         Back it up where it runs; if it is this host's VM, end who uses the disk", image.display()
    )]
    InUse {
        domain: String,
        target: String,
        /// The file or device.
        image: PathBuf,
        by: String,
    },
    /// An image could not be asked about.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The domain did not hold still.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// A folder could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Stopped(#[from] StopReason),
}

impl From<QemuImgError> for LookError {
    fn from(error: QemuImgError) -> Self {
        Self::Image(error.into())
    }
}

fn mend_pool(pool: &str, is_active: Option<bool>) -> String {
    match is_active {
        Some(false) => format!(
            "Start its pool: virsh pool-start '{pool}'; that it starts with the host: virsh pool-autostart '{pool}'"
        ),
        Some(true) => format!("Have libvirt look at the pool again: virsh pool-refresh '{pool}'"),
        None => "See which pools there are: virsh pool-list --all".to_owned(),
    }
}
