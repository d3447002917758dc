//! The files of a job: libvirt and QEMU remove them at its end, unless they die before.
//!
//! Must not live here: what is removed of a point (`recovery`).

use std::path::PathBuf;
use std::time::Duration;

use super::journal::Journal;
use vmprogram::{NEVER, ProgramError};

/// Storage that does not answer for so long hangs.
const HANG_LIMIT: Duration = Duration::from_secs(15);

/// The files that may be there.
pub(crate) fn files(journal: &Journal) -> Vec<PathBuf> {
    journal.scratch.iter().chain([&journal.socket]).cloned().collect()
}

/// Removes them. Of each file, whether it was there, or why it still is.
pub(crate) fn remove(files: &[PathBuf]) -> Result<Vec<Result<bool, String>>, ProgramError> {
    vmprogram::remove(files, HANG_LIMIT, NEVER)
}
