//! The images that a disk consists of, from its own down, as QEMU opens them: by its definition, and by their headers where
//! that is silent.

use super::qemu_img::{self, Layer, QemuImgError};
use super::readable_disk::ReadableDisk;
use crate::engine::cancel::Cancel;
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::layout::{Backing, Image};
use vmprogram::Stopped;

/// Whether the disk is its image and nothing else.
pub(crate) fn is_one_file(disk: &ReadableDisk) -> bool {
    let below = matches!(disk.layout.backing, Backing::Image(_));
    let alone = disk.info.stands_alone || disk.layout.backing == Backing::Nothing && !disk.info.has_data_file;
    alone && !below && disk.layout.data_file.is_none()
}

/// Asks each image anew; they may be in use.
pub(crate) fn of(disk: &ReadableDisk, cancel: &Cancel) -> Result<Vec<Layer>, QemuImgError> {
    let mut found = vec![];
    let (path, layout) = (disk.image.clone(), disk.layout.clone());
    let mut at = Image { format: disk.format, path, layout };
    let mut driver =
        if disk.format == ImageFormat::Raw && disk.secret.is_some() { "luks" } else { disk.format.as_str() };
    let stopped: Stopped<'_> = &|| cancel.stopped().is_some();
    loop {
        let by_header = matches!(at.layout.backing, Backing::OfHeader | Backing::Unreadable(_));
        found.extend(qemu_img::layers(&at.path, driver, &at.layout, by_header, stopped)?);
        match at.layout.backing {
            Backing::Image(below) => at = *below,
            _ => return Ok(found),
        }
        driver = at.format.as_str();
    }
}
