//! The bytes of one file of a backup set, wherever it is kept: read by position.
//!
//! Streams and sidecars are read through this alone, so that what holds them may be a local file or an object store.
//! Must not live here: what the bytes mean.

use crate::pooled::Pooled;
use std::fmt::Debug;
use std::fs::File;
use std::io;

/// The bytes of one file, of a length that was fixed when it was opened.
///
/// Any number of threads may read at once. An implementation reads; it never maps: a file that is cut short meanwhile gives
/// an error, not a signal and not zeros.
pub trait Blob: Debug + Send + Sync {
    /// Bytes of it when it was opened. What it gains later is not seen.
    fn size(&self) -> u64;

    /// Fills `out` with the bytes from `at` on, in one request where the store can.
    ///
    /// # Errors
    /// Of [`io::ErrorKind::UnexpectedEof`] when fewer are there: it was cut short, or the caller asked past
    /// [`Blob::size`]. `out` means nothing then.
    fn read_exact_at(&self, at: u64, out: &mut [u8]) -> io::Result<()>;

    /// Where content begins at or behind `at`, `u64::MAX` when there is none: what lies before it is a hole, and zero. `at`
    /// itself from a store that knows no holes.
    fn next_data(&self, at: u64) -> u64 {
        at
    }
}

/// Where content begins at or behind `at`, as far as the file system can tell; `u64::MAX` when there is none. Of a file that
/// had `len` bytes and was cut short meanwhile `at` itself: what it lost is no hole, and who reads there meets its end.
pub(crate) fn next_data(file: &File, at: u64, len: u64) -> u64 {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(next) => next,
        Err(rustix::io::Errno::NXIO) if file.metadata().is_ok_and(|about| about.len() >= len) => u64::MAX,
        Err(_) => at,
    }
}

impl Blob for Pooled {
    fn size(&self) -> u64 {
        self.len()
    }

    fn read_exact_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&*self.file()?, out, at)
    }

    fn next_data(&self, at: u64) -> u64 {
        self.file().map_or(at, |file| next_data(&file, at, self.len()))
    }
}

/// A file that is in memory.
impl Blob for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..out.len()));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_a_file_lost_is_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let (len, step) = (4 << 20, 1 << 20);
        std::fs::write(&path, vec![7; step as usize]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        let blob = Pooled::open(&path).unwrap();
        assert_eq!(
            (blob.next_data(0), blob.next_data(step), blob.next_data(len - 1)),
            (0, u64::MAX, u64::MAX)
        );
        for (left, at) in [(3 * step, step), (3 * step, 3 * step), (step, step), (0, 0)] {
            file.set_len(left).unwrap();
            assert_eq!(blob.next_data(at), at, "{left} bytes left");
            assert!(blob.read_exact_at(at, &mut vec![0; (len - at) as usize]).is_err(), "{left} bytes left");
        }
    }
}
