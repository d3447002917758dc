//! A raw image file that takes no room where it is zero.

use super::error::ExtractError;
use super::partial::{Existing, NewFileError, Partial};
use super::target::Target;
use super::zeros::write_parts;
use crate::page_cache;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// An unfinished image. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub(super) struct SparseImage {
    partial: Partial,
    written: AtomicU64,
}

impl SparseImage {
    /// Creates `TARGET.partial` of `size` bytes, all zero.
    ///
    /// # Errors
    /// As [`Partial::create`].
    pub(super) fn create(target: &Path, size: u64, existing: Existing) -> Result<Self, NewFileError> {
        let partial = Partial::create(target, existing)?;
        partial
            .file()
            .set_len(size)
            .map_err(|source| NewFileError::Write { path: target.to_owned(), source })?;
        Ok(Self { partial, written: AtomicU64::new(0) })
    }
}

impl Target for SparseImage {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let written = write_parts(at, bytes, |at, part| self.partial.file().write_all_at(part, at))?;
        let before = self.written.fetch_add(written, Ordering::Relaxed);
        page_cache::let_go_in_steps(self.partial.file(), before..before + written);
        Ok(written)
    }

    fn finish(self: Box<Self>, free: &dyn Fn() -> Result<(), ExtractError>) -> Result<(), ExtractError> {
        self.partial.sync()?;
        free()?;
        Ok(self.partial.publish()?)
    }
}
