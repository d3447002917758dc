//! What is wrong with images, in words: a backup holds what can be read of them.

use std::path::Path;

use super::readable_disk::ReadableDisk;
use super::{layers, qemu_img};
use crate::engine::cancel::Cancel;
use crate::engine::domain::layout::Layout;

/// What is wrong with an image that QEMU has marked.
pub(crate) const MARKED: &str = "is marked as corrupt: QEMU found it damaged";

/// The words for an image of a disk that is damaged.
pub(crate) fn words(target: &str, image: &Path, what: &str) -> String {
    format!(
        "the image {} of disk {target} {what}. The backup holds what can be read of it; look: qemu-img check '{}'",
        image.display(),
        image.display()
    )
}

/// What is wrong with the images of a disk of a domain that is shut off, as far as that can be told without reading it all.
pub(crate) fn of(disk: &ReadableDisk, cancel: &Cancel) -> Vec<String> {
    let layers = layers::of(disk, cancel).unwrap_or_default();
    let qcow2 = layers.into_iter().enumerate().filter(|(_, layer)| layer.driver == "qcow2");
    let found = qcow2.filter_map(|(depth, layer)| {
        let say = |what: &str| Some(words(&disk.target, &layer.image, what));
        if layer.is_marked_corrupt {
            return say(MARKED);
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
