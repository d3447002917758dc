//! A raw image file that is written beside its final name and takes no room where it is zero.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Zeros shorter than this are written rather than left out. The block size of common file systems.
const HOLE_BLOCK: usize = 4096;

/// An unfinished image. Dropped before [`SparseImage::finish`], it is removed.
#[derive(Debug)]
pub struct SparseImage {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl SparseImage {
    /// Creates `TARGET.partial` of `size` bytes, all zero. With `replace`, an old one is removed first.
    ///
    /// # Errors
    /// `AlreadyExists` when the target or the partial file is there and `replace` is false; others as the system says.
    pub fn create(target: &Path, size: u64, replace: bool) -> io::Result<Self> {
        let mut name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".partial");
        let partial = target.with_file_name(name);
        match std::fs::symlink_metadata(target) {
            Ok(about) if !replace || !about.is_file() => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        if replace && std::fs::symlink_metadata(&partial).is_ok_and(|about| about.is_file()) {
            std::fs::remove_file(&partial)?;
        }
        // A disk's content is nobody else's business: owner only, as libvirt keeps its images.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let image = Self { file, partial, target: target.to_owned(), finished: false };
        image.file.set_len(size)?;
        Ok(image)
    }

    /// Where the bytes are until the image is finished.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Writes content at a place, leaving out whole blocks of zeros. Each place may be written once.
    ///
    /// # Errors
    /// As the system says.
    pub fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let (mut from, mut to, mut written) = (0, 0, 0);
        while to < bytes.len() {
            // Blocks as the file system cuts them, also when `at` is not on a border.
            let border = HOLE_BLOCK - ((at + to as u64) % HOLE_BLOCK as u64) as usize;
            let block_end = bytes.len().min(to + border);
            if is_zero(&bytes[to..block_end]) {
                self.file.write_all_at(&bytes[from..to], at + from as u64)?;
                written += (to - from) as u64;
                from = block_end;
            }
            to = block_end;
        }
        self.file.write_all_at(&bytes[from..], at + from as u64)?;
        Ok(written + (bytes.len() - from) as u64)
    }

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when the target has appeared meanwhile and `replace` is false; others as the system says.
    pub fn finish(mut self, replace: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if replace {
            std::fs::rename(&self.partial, &self.target)?;
        } else {
            rename_new(&self.partial, &self.target)?;
        }
        self.finished = true;
        let dir = match self.target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        File::open(dir)?.sync_all()
    }
}

impl Drop for SparseImage {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about it here; the name says that it is not finished.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// A rename that never replaces, also on file systems (NFS, SMB) that have no such call.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
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

fn is_zero(bytes: &[u8]) -> bool {
    // Without an early exit inside a chunk the compiler compares many bytes at once.
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}
