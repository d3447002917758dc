//! Deletes a checkpoint, with its bitmaps wherever they are.
//!
//! Must not live here: which checkpoints go (`undo`, `vmplan`).

use std::path::PathBuf;

use crate::engine::image::{bitmap, qemu_img};
use vmhost::libvirt::{CheckpointDelete, Domain, ErrorKind, LibvirtError};

/// Deletes a checkpoint with its bitmaps, whatever state the domain is in.
///
/// libvirt refuses for a domain that is shut off, and when one of its bitmaps is missing: then the metadata goes,
/// and the bitmaps are removed from the images that nobody has open.
pub(crate) fn delete_checkpoint(domain: &Domain, name: &str, images: &[PathBuf]) -> Result<(), LibvirtError> {
    if domain.state()?.is_active() {
        match domain.delete_checkpoint(name, CheckpointDelete::WithBitmaps) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind == ErrorKind::NoCheckpoint => return Ok(()),
            Err(e) if e.is_bitmap_missing() => {
                domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly)?
            }
            Err(e) => return Err(e),
        }
        bitmap::remove_live(domain, name);
        return Ok(());
    }
    match domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly) {
        Err(e) if e.kind != ErrorKind::NoCheckpoint => return Err(e),
        _ => {}
    }
    for image in images {
        // Fails where the bitmap was never written (QEMU was killed), which is as good.
        let _ = qemu_img::remove_bitmap(image, name);
    }
    Ok(())
}
