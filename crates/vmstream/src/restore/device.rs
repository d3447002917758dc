//! A block device as the target: never cut, every byte of the disk's size written or cleared.

use super::error::ExtractError;
use super::target::Target;
use crate::unfinished::Unfinished;
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Ranges are cleared in parts of this size: a device that must really write zeros shows progress, and can be stopped.
const CLEAR_LEN: u64 = 256 << 20;

/// Zeros written where the device cannot clear.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// An open block device, at least as large as the disk.
#[derive(Debug)]
pub(super) struct Device {
    path: PathBuf,
    file: File,
    unfinished: Unfinished,
    is_overwritten: AtomicBool,
}

impl Device {
    /// Opens a device that nobody else has mounted or claimed.
    pub(super) fn open(path: &Path, size: u64) -> Result<Self, ExtractError> {
        let failed = |source| ExtractError::Write { path: path.to_owned(), source };
        // For a block device O_EXCL without O_CREAT means: fail when it is mounted or part of an array.
        let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
        let mut file =
            OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path).map_err(failed)?;
        let room = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if room < size {
            return Err(ExtractError::DeviceTooSmall { path: path.to_owned(), room, size });
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            unfinished: Unfinished::device(path),
            is_overwritten: AtomicBool::new(false),
        })
    }

    fn clear_part(&self, part: Range<u64>) -> io::Result<()> {
        let len = part.end - part.start;
        if rustix::fs::fallocate(&self.file, FallocateFlags::ZERO_RANGE, part.start, len).is_ok() {
            return Ok(());
        }
        // Not on a sector's border, or a device that cannot.
        let mut at = part.start;
        while at < part.end {
            let len = (part.end - at).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }
}

impl Target for Device {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        self.is_overwritten.store(true, Ordering::Relaxed);
        self.file.write_all_at(bytes, at)?;
        Ok(bytes.len() as u64)
    }

    fn has_old_content(&self) -> bool {
        true
    }

    fn is_overwritten(&self) -> bool {
        self.is_overwritten.load(Ordering::Relaxed)
    }

    fn clear(&self, range: Range<u64>) -> io::Result<()> {
        self.is_overwritten.store(true, Ordering::Relaxed);
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + CLEAR_LEN);
            self.clear_part(at..end)?;
            at = end;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _free: &dyn Fn() -> Result<(), ExtractError>) -> Result<(), ExtractError> {
        let done = self.unfinished.finish(|| self.file.sync_all());
        done.map_err(|source| ExtractError::Write { path: self.path.clone(), source })
    }
}
