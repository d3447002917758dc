//! Where an image goes: a new raw file, a new qcow2 file, or a block device, as its name and the options say.

use super::device::Device;
use super::error::ExtractError;
use super::extracted::Watch;
use super::options::{ExtractOptions, Format};
use super::qcow2::Qcow2Image;
use super::sparse::SparseImage;
use super::target::{Target, ask_free};
use crate::durable;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Opens or creates what `path` and the options ask for.
pub(super) fn open(
    path: &Path,
    size: u64,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<Box<dyn Target>, ExtractError> {
    if std::fs::metadata(path).is_ok_and(|about| about.file_type().is_block_device()) {
        if options.format != Format::Raw {
            return Err(ExtractError::DeviceFormat { path: path.to_owned() });
        }
        if !options.replace {
            return Err(ExtractError::DeviceInTheWay { path: path.to_owned() });
        }
        ask_free(path, watch)?;
        return Ok(Box::new(Device::open(path, size)?));
    }
    if options.replace {
        ask_free(path, watch)?;
        // That of somebody who is at it too.
        durable::partial_path(path).map_or(Ok(()), |partial| ask_free(&partial, watch))?;
    }
    match options.format {
        Format::Raw => Ok(Box::new(SparseImage::create(path, size, options.existing())?)),
        Format::Qcow2 => Ok(Box::new(Qcow2Image::create(path, size, options.existing())?)),
    }
}
