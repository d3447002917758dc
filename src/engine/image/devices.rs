//! Which files of an image are block devices: QEMU opens those in another way.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::domain::layout::Devices;
use vmprogram::{ProgramError, Stopped};

/// How long a look at all files of a disk may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// The block devices among these files.
pub(crate) fn among(files: &[PathBuf], stopped: Stopped<'_>) -> Result<Devices, ProgramError> {
    let looks = vmprogram::look(files, LOOK_LIMIT, stopped)?;
    let is_device = |look: Result<vmprogram::Look, String>| look.is_ok_and(|look| look.is_block_device);
    Ok(files
        .iter()
        .zip(looks)
        .filter(|(_, look)| is_device(look.clone()))
        .map(|(file, _)| file.clone())
        .collect())
}
