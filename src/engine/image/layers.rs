//! The images that a disk consists of, from its own down, as QEMU opens them: by its definition, and by their headers where
//! that is silent.

use std::path::PathBuf;
use std::time::Duration;

use super::qemu_img::{self, Layer, QemuImgError};
use crate::engine::cancel::Cancel;
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::layout::{Backing, Devices, Image, Layout};
use crate::engine::look::observe::{self, ReadableDisk};
use vmprogram::{ProgramError, Stopped};

/// How long a look at all files of a disk may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

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

/// What is wrong with the images of a disk of a domain that is shut off, as far as that can be told without reading it all.
pub(crate) fn damage(disk: &ReadableDisk, cancel: &Cancel) -> Vec<String> {
    let layers = of(disk, cancel).unwrap_or_default();
    let qcow2 = layers.into_iter().enumerate().filter(|(_, layer)| layer.driver == "qcow2");
    let found = qcow2.filter_map(|(depth, layer)| {
        let say = |what: &str| Some(observe::damage(&disk.target, &layer.image, what));
        if layer.is_marked_corrupt {
            return say(observe::MARKED);
        }
        // Its tables are read with its key only; and wrong counts of an image that says so are made anew.
        if disk.secret.is_some() || layer.is_dirty {
            return None;
        }
        let layout = if depth == 0 { disk.layout.clone() } else { Layout::default() };
        match qemu_img::broken_references(&layer.image, &layout, &|| cancel.stopped().is_some()) {
            Ok(0) => None,
            Ok(count) => say(&format!(
                "is cut short or damaged: {count} references in it lead to nothing that is right"
            )),
            Err(error) => {
                tracing::debug!("{error}");
                None
            }
        }
    });
    found.collect()
}

/// The block devices among these files.
pub(crate) fn devices(files: &[PathBuf], stopped: Stopped<'_>) -> Result<Devices, ProgramError> {
    let looks = vmprogram::look(files, LOOK_LIMIT, stopped)?;
    let is_device = |look: Result<vmprogram::Look, String>| look.is_ok_and(|look| look.is_block_device);
    Ok(files
        .iter()
        .zip(looks)
        .filter(|(_, look)| is_device(look.clone()))
        .map(|(file, _)| file.clone())
        .collect())
}
