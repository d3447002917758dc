//! Where an image goes: a new raw file, a new qcow2 file, or a block device.

use super::device::Device;
use super::extract::{ExtractError, ExtractOptions, Format, Watch};
use super::partial::partial_name;
use super::qcow2::Qcow2Image;
use super::sparse::SparseImage;
use crate::in_use::{self, InUse};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// An image under construction. Any thread may write any range, each once.
pub(super) trait Target: Sync {
    /// Writes content; returns the bytes that took room.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64>;

    /// True when ranges that no stream has must be cleared: there may be something else.
    fn has_old_content(&self) -> bool {
        false
    }

    /// True once something of the old content is gone.
    fn is_overwritten(&self) -> bool {
        false
    }

    /// Clears a range. Asked for only where [`Target::has_old_content`].
    fn clear(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    /// Makes the image durable and gives it its name. Dropped before, nothing of a file is left. A file's `free` is asked
    /// between the two, since the first may take minutes: its error leaves the target as it is.
    fn finish(self: Box<Self>, free: &dyn Fn() -> Result<(), ExtractError>) -> Result<(), ExtractError>;
}

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
        partial_name(path).map_or(Ok(()), |partial| ask_free(&partial, watch))?;
    }
    match options.format {
        Format::Raw => Ok(Box::new(SparseImage::create(path, size, options.existing())?)),
        Format::Qcow2 => Ok(Box::new(Qcow2Image::create(path, size, options)?)),
    }
}

/// The error about a target that somebody has open, or may have and only root would see. Where nobody can tell, that is
/// said.
pub(super) fn ask_free(path: &Path, watch: &dyn Watch) -> Result<(), ExtractError> {
    match in_use::user_of(path) {
        InUse::Free => Ok(()),
        InUse::By(by) => Err(ExtractError::InUse { path: path.to_owned(), by }),
        InUse::Hidden(why) => Err(ExtractError::UsersHidden { path: path.to_owned(), why }),
        InUse::Unknown(why) => {
            let path = path.display();
            watch.warning(&format!("Nobody can tell whether {path} is in use: {why}"));
            Ok(())
        }
    }
}
