//! A raw image file that is written beside its final name and takes no room where it is zero.

use super::target::Target;
use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros shorter than this are written rather than left out. The block size of common file systems.
const HOLE_BLOCK: usize = 4096;

/// After so many bytes the kernel is told to write them out and keep none of them in memory.
const FLUSH_LEN: u64 = 64 << 20;

/// What an image is called until it is finished.
pub(super) fn partial_name(target: &Path) -> Option<PathBuf> {
    let mut name = target.file_name()?.to_owned();
    name.push(".partial");
    Some(target.with_file_name(name))
}

/// A file beside its final name. Dropped before [`Partial::publish`], it is removed.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    target: PathBuf,
    replace: bool,
    published: bool,
}

impl Partial {
    /// Creates `TARGET.partial`. With `replace`, an old one is removed first.
    ///
    /// # Errors
    /// `AlreadyExists` when the target or the partial file is there and `replace` is false; others as the system says.
    pub(super) fn create(target: &Path, replace: bool) -> io::Result<(Self, File)> {
        let path = partial_name(target).ok_or(io::ErrorKind::InvalidInput)?;
        match std::fs::symlink_metadata(target) {
            Ok(about) if !replace || !about.is_file() => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        if replace && std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_file()) {
            std::fs::remove_file(&path)?;
        }
        // A disk's content is nobody else's business: owner only, as libvirt keeps its images.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self { path, target: target.to_owned(), replace, published: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when the target has appeared meanwhile and may not be replaced; others as the system says.
    pub(super) fn publish(mut self) -> io::Result<()> {
        let file = File::open(&self.path)?;
        file.sync_all()?;
        // What is on the disk needs no room in memory. An older file system may not know the call.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        if self.replace {
            std::fs::rename(&self.path, &self.target)?;
        } else {
            rename_new(&self.path, &self.target)?;
        }
        self.published = true;
        let dir = match self.target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        File::open(dir)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done about it here; the name says that it is not finished.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// An unfinished image. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub(super) struct SparseImage {
    file: File,
    partial: Partial,
    written: AtomicU64,
}

impl SparseImage {
    /// Creates `TARGET.partial` of `size` bytes, all zero.
    ///
    /// # Errors
    /// As [`Partial::create`].
    pub(super) fn create(target: &Path, size: u64, replace: bool) -> io::Result<Self> {
        let (partial, file) = Partial::create(target, replace)?;
        file.set_len(size)?;
        Ok(Self { file, partial, written: AtomicU64::new(0) })
    }
}

impl Target for SparseImage {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let written = write_parts(at, bytes, |at, part| self.file.write_all_at(part, at))?;
        let before = self.written.fetch_add(written, Ordering::Relaxed);
        if before / FLUSH_LEN != (before + written) / FLUSH_LEN {
            // Starts writing out, and drops what is written: a large image must not push others out of memory.
            let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        }
        Ok(written)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.partial.publish()
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

/// A rename that never replaces, also on file systems (NFS, SMB) that have no such call.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            if std::fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        done => Ok(done?),
    }
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
