//! A raw image file that takes no room where it is zero.

use super::extract::ExtractError;
use super::partial::{Existing, NewFileError, Partial};
use super::target::Target;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros shorter than this are written rather than left out. The block size of common file systems.
const HOLE_BLOCK: usize = 4096;

/// After so many bytes the kernel is told to write them out and keep none of them in memory.
const FLUSH_LEN: u64 = 64 << 20;

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
        if before / FLUSH_LEN != (before + written) / FLUSH_LEN {
            // Starts writing out, and drops what is written: a large image must not push others out of memory.
            let _ = fadvise(self.partial.file(), 0, None, Advice::DontNeed);
        }
        Ok(written)
    }

    fn finish(self: Box<Self>, free: &dyn Fn() -> Result<(), ExtractError>) -> Result<(), ExtractError> {
        self.partial.sync()?;
        free()?;
        Ok(self.partial.publish()?)
    }
}

/// Hands on content without its whole blocks of zeros. Returns the bytes handed on.
pub(crate) fn write_parts(
    at: u64,
    bytes: &[u8],
    mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut from, mut to, mut written) = (0, 0, 0);
    let mut part = |range: std::ops::Range<usize>| {
        if range.is_empty() {
            return Ok(());
        }
        written += range.len() as u64;
        write(at + range.start as u64, &bytes[range])
    };
    while to < bytes.len() {
        // Blocks as the file system cuts them, also when `at` is not on a border.
        let border = HOLE_BLOCK - ((at + to as u64) % HOLE_BLOCK as u64) as usize;
        let block_end = bytes.len().min(to + border);
        if is_zero(&bytes[to..block_end]) {
            part(from..to)?;
            from = block_end;
        }
        to = block_end;
    }
    part(from..bytes.len())?;
    Ok(written)
}

/// Where content begins at or behind `at`, as far as the file system can tell; `u64::MAX` when there is none.
pub(crate) fn next_data(file: &File, at: u64) -> u64 {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(next) => next,
        Err(rustix::io::Errno::NXIO) => u64::MAX,
        Err(_) => at,
    }
}

/// True when all bytes are zero. Stops soon after the first that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Without an early exit inside a chunk the compiler compares many bytes at once.
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_one_byte_that_is_not_zero() {
        assert!(is_zero(&[]));
        assert!(is_zero(&[0; 10_000]));
        for at in [0, 4095, 4096, 9_999] {
            let mut bytes = vec![0; 10_000];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
    }
}
