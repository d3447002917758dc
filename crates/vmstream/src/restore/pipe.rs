//! A disk as a sequence of bytes, for standard output.

use super::content::{Content, OnWrong};
use super::error::ExtractError;
use super::extracted::{Extracted, Watch};
use super::window::WINDOW_LEN;
use crate::chain::{BackupSet, DiskTarget, PointId};
use std::io::Write;
use std::num::NonZeroUsize;

/// Zeros for windows that no stream has anything of.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Writes `disk` as it was at `point`, all bytes in order, zeros too. Stops before content that is not what its sidecars
/// say.
///
/// # Errors
/// [`ExtractError`]; what was written up to there is right, and useless.
pub fn extract_to(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    out: &mut dyn Write,
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    pipe_to(set, disk, point, (out, true), workers, watch)
}

/// [`extract_to`]; without `check`, content that is not what its sidecars say is written all the same, and counted.
///
/// # Errors
/// [`ExtractError`]; what was written up to there is right, and useless.
pub fn pipe_to(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    (out, check): (&mut dyn Write, bool),
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    if check {
        ExtractError::check_length(&set.content(disk, point)?)?;
    }
    let on_wrong = if check { OnWrong::Fail } else { OnWrong::Allow };
    let content = Content::open(set, disk, point, on_wrong)?;
    let checked = content.read(
        workers,
        |_| Ok(()),
        |window, ()| {
            let mut write = || {
                if !window.is_blank() {
                    return out.write_all(&window.bytes);
                }
                let len = (window.disk.end - window.disk.start).min(WINDOW_LEN) as usize;
                (0..len)
                    .step_by(ZEROS.len())
                    .try_for_each(|at| out.write_all(&ZEROS[..ZEROS.len().min(len - at)]))
            };
            write().map_err(|source| ExtractError::Pipe { source })?;
            watch.progress(window.disk.end, content.size);
            Ok(())
        },
    )?;
    out.flush().map_err(|source| ExtractError::Pipe { source })?;
    Ok(Extracted::new((content.size, content.size), content.taken, checked.as_ref(), content.unused_sidecars))
}
