//! What takes an image, whatever it is; and whether somebody has it.

use super::error::ExtractError;
use super::extracted::Watch;
use crate::in_use::{self, InUse};
use std::io;
use std::ops::Range;
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
