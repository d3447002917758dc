//! A range of a disk written out in order, by several threads that read it.

use super::error::DiskError;
use super::open::Disk;
use super::options::Proof;
use crate::restore::Watch;
use crate::restore::ordered;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Range;

/// Bytes of the disk that a thread reads at once: as much as the largest piece holds.
const WINDOW_LEN: u64 = 32 << 20;

/// Why a range was not written out.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The reader of a pipe, or the file behind it, took no more.
    #[error("Cannot write to the output")]
    Output {
        /// What the system said.
        source: io::Error,
    },
}

impl Disk {
    /// Writes a range of the disk, zeros too, reading on so many threads, each with 32 MiB at most. Nothing of a window is
    /// written that is not read whole, and nothing behind an error.
    ///
    /// # Errors
    /// [`CopyError`]; what was written up to there is right.
    pub fn copy_to(
        &self,
        range: Range<u64>,
        out: &mut dyn Write,
        workers: NonZeroUsize,
        watch: &dyn Watch,
    ) -> Result<Proof, CopyError> {
        let (first, size) = (range.start, range.end.saturating_sub(range.start));
        if range.end > self.size() {
            return Err(DiskError::PastEnd { offset: first, len: size, size: self.size() }.into());
        }
        // Cut where the disk's windows are cut: a piece that ends there is read by one thread alone.
        let cut = |at: u64| at..range.end.min((at / WINDOW_LEN + 1).saturating_mul(WINDOW_LEN));
        let mut next = range.start;
        let windows = std::iter::from_fn(|| {
            let window = cut(next);
            next = window.end;
            (!window.is_empty()).then_some(Ok(window))
        });
        let mut proof = Proof::Proven;
        ordered::run(
            workers,
            || (Vec::new(), 0..0, Proof::Proven),
            windows,
            |window: Range<u64>, (bytes, disk, proof)| {
                bytes.resize((window.end - window.start) as usize, 0);
                *proof = self.read_at(window.start, bytes)?;
                *disk = window;
                Ok::<_, CopyError>(())
            },
            |(bytes, disk, of_window)| {
                proof = proof.min(*of_window);
                out.write_all(bytes).map_err(|source| CopyError::Output { source })?;
                watch.progress(disk.end - first, size);
                Ok(())
            },
        )?;
        out.flush().map_err(|source| CopyError::Output { source })?;
        Ok(proof)
    }
}
