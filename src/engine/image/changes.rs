//! What changed in a disk that no QEMU has open, by the bitmaps that its images kept.
//!
//! Must not live here: how several bitmaps become one (`union`).

use std::path::Path;

use super::error::ImageError;
use super::layers;
use super::qemu_img::Layer;
use super::readable_disk::ReadableDisk;
use super::union::Union;
use crate::engine::cancel::Cancel;
use vmhost::libvirt::Host;

/// The changes that an export shows beside the content.
pub(crate) enum Changes {
    Not,
    /// Those of a bitmap of the image.
    Bitmap(String),
    /// Those of bitmaps of several images.
    Union(Union),
}

/// The name of a bitmap that an image did not keep, or that was not closed in order.
pub(crate) struct LostBitmap(pub(crate) String);

impl Changes {
    /// Finds the bitmaps `since`, from the disk's image down to the first without one, as libvirt does when a job begins.
    /// All of them, and `newest` in the image itself, must have been closed in order. A union takes room in `dir`.
    pub(crate) fn kept(
        host: &Host,
        disk: &ReadableDisk,
        newest: &str,
        since: Option<&str>,
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<Result<Self, LostBitmap>, ImageError> {
        let layers = layers::of(disk, cancel).map_err(|e| cancel.cause::<ImageError>(e))?;
        let is_sound = |layer: &Layer, bitmap: &str| layer.sound_bitmaps.iter().any(|sound| sound == bitmap);
        let lost = |bitmap: &str| Ok(Err(LostBitmap(bitmap.to_owned())));
        if !layers.first().is_some_and(|top| is_sound(top, newest)) {
            return lost(newest);
        }
        let Some(since) = since else { return Ok(Ok(Self::Not)) };
        let has = layers.iter().take_while(|layer| layer.bitmaps.iter().any(|name| name == since)).count();
        match &layers[..has] {
            [] => lost(since),
            having if !having.iter().all(|layer| is_sound(layer, since)) => lost(since),
            [_] => Ok(Ok(Self::Bitmap(since.to_owned()))),
            having => Ok(Ok(Self::Union(Union::of(host, disk, having, since, dir, cancel)?))),
        }
    }
}
