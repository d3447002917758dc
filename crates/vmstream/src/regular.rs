//! Opens files that somebody else may have put there: regular ones, and never a pipe, which would be waited for.

use rustix::fs::OFlags;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file for reading.
///
/// # Errors
/// Of [`io::ErrorKind::InvalidInput`] for anything else.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_described(path).map(|(file, _)| file)
}

/// The same, with the attributes that it looked at.
pub(crate) fn open_described(path: &Path) -> io::Result<(File, Metadata)> {
    // Without it, opening a pipe waits for somebody who writes. It means nothing for a regular file.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if about.is_file() {
        return Ok((file, about));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}
