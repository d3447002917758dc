//! What changed in a disk since a checkpoint, where its images keep that in several bitmaps.
//!
//! An external snapshot gives the new image an empty bitmap of the same name; the one below keeps what changed before.
//! libvirt merges them when a job begins. For a disk that is read without libvirt they are merged here, into an image
//! without content that is laid over the disk, and is gone with this value.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::ImageError;
use super::node::{node, not_looked_at};
use super::qemu_img::{self, Layer};
use super::readable_disk::ReadableDisk;
use super::{devices, key};
use crate::engine::cancel::Cancel;
use crate::engine::domain::layout::{Backing, Devices, Layout};
use crate::engine::failure::FileError;
use vmhost::libvirt::Host;
use vmprogram::Stopped;

/// An image that holds nothing but a bitmap. Without a name in any folder.
pub(crate) struct Union {
    file: File,
    bitmap: String,
}

impl Union {
    /// Merges the bitmaps of that name of `layers`, which all have it. The file takes room in `dir`.
    pub(crate) fn of(
        host: &Host,
        disk: &ReadableDisk,
        layers: &[Layer],
        bitmap: &str,
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        let failed = |source| FileError { doing: "make a file in", path: dir.to_owned(), source };
        let file = tempfile::tempfile_in(dir).map_err(failed)?;
        let union = Self { file, bitmap: bitmap.to_owned() };
        qemu_img::create_with_bitmap(&union.path(), disk.info.virtual_size, bitmap)?;
        let stopped: Stopped<'_> = &|| cancel.stopped().is_some();
        let files = layers.iter().flat_map(|layer| [Some(layer.image.clone()), layer.data_file.clone()]);
        let files: Vec<PathBuf> = files.flatten().collect();
        let devices = devices::among(&files, stopped);
        let devices = devices.map_err(|e| cancel.cause::<ImageError>(not_looked_at(disk, &e)))?;
        let key = key::key_of(host, disk)?;
        for (depth, layer) in layers.iter().enumerate() {
            let key = key.as_ref().filter(|_| depth == 0).map(|key| key.as_slice());
            qemu_img::merge_bitmap(&union.path(), bitmap, &alone(disk, layer, depth, &devices), key, stopped)
                .map_err(|e| cancel.cause::<ImageError>(e))?;
        }
        Ok(union)
    }

    /// Where programs that this process starts find it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// The name of its bitmap.
    pub(crate) fn bitmap(&self) -> &str {
        &self.bitmap
    }
}

/// One image without what backs it. The first is the disk's own.
fn alone(disk: &ReadableDisk, layer: &Layer, depth: usize, devices: &Devices) -> Value {
    if depth == 0 {
        let layout = Layout { backing: Backing::Nothing, ..disk.layout.clone() };
        return node(&ReadableDisk { layout, ..disk.clone() }, devices);
    }
    let layout = Layout { backing: Backing::Nothing, data_file: layer.data_file.clone(), slice: None };
    let mut node = layout.node("qcow2", &layer.image, devices);
    node["force-share"] = json!(true);
    node
}
