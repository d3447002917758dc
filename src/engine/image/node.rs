//! QEMU's node of a disk that is read without libvirt.

use serde_json::{Value, json};

use super::error::ImageError;
use super::readable_disk::ReadableDisk;
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::layout::Devices;
use vmprogram::ProgramError;

/// The error of a disk whose files could not be looked at.
pub(crate) fn not_looked_at(disk: &ReadableDisk, error: &ProgramError) -> ImageError {
    ImageError::QemuNbd { message: format!("looking at {} {error}", disk.image.display()) }
}

/// QEMU's node of a disk whose key, if it has one, is the object `key`.
///
/// The image is opened without a lock (`force-share`): somebody who starts the domain meanwhile must succeed. The caller
/// checks that nobody did.
pub(crate) fn node(disk: &ReadableDisk, devices: &Devices) -> Value {
    let mut node = disk.layout.node(disk.format.as_str(), &disk.image, devices);
    node["force-share"] = true.into();
    match (&disk.secret, disk.format) {
        (None, _) => {}
        (Some(_), ImageFormat::Qcow2) => {
            node["encrypt"] = json!({ "format": "luks", "key-secret": "key" });
        }
        (Some(_), ImageFormat::Raw) => {
            node["driver"] = "luks".into();
            node["key-secret"] = "key".into();
        }
    }
    node
}
