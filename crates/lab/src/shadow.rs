//! The shadow of a disk: a plain sparse file that receives every request the disk receives.
//!
//! It always holds what the guest would read, so a restored disk must equal it byte for byte.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom};

use super::monitor::DiskOp;

const CHUNK_BYTES: u64 = 1 << 20;

/// How a disk's image answers a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discard {
    /// The disk is configured without discard: content stays.
    Ignored,
    /// Units of this many bytes that lie wholly inside the request read as zeros; the rest stays. A unit cut
    /// short by the disk's end counts as whole when the request reaches the end.
    WholeUnits(u64),
}

/// Where two disks stop being equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The sizes differ; contents were not compared.
    Size { shadow_bytes: u64, other_bytes: u64 },
    /// The first byte that differs.
    Content { at: u64, shadow: u8, other: u8 },
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { shadow_bytes, other_bytes } => {
                write!(to, "the shadow has {shadow_bytes} bytes, the other {other_bytes}")
            }
            Self::Content { at, shadow, other } => {
                write!(to, "byte {at} ({at:#x}) is {shadow:#04x} in the shadow, {other:#04x} in the other")
            }
        }
    }
}

/// A raw copy of what a disk holds.
#[derive(Debug)]
pub struct Shadow {
    path: PathBuf,
    file: File,
}

impl Shadow {
    /// Creates the shadow of an empty disk.
    pub fn create(path: &Path, bytes: u64) -> Self {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.unwrap_or_else(|error| panic!("Cannot create {}: {error}", path.display()));
        file.set_len(bytes).expect("the shadow gets its size");
        Self { path: path.to_owned(), file }
    }

    /// Opens a raw file as the shadow.
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.unwrap_or_else(|error| panic!("Cannot open {}: {error}", path.display()));
        Self { path: path.to_owned(), file }
    }

    /// The raw file itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the disk.
    pub fn size_bytes(&self) -> u64 {
        self.file.metadata().expect("the shadow has a size").len()
    }

    /// Writes bytes; the disk's own content must have been given them too.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.size_bytes(), "a write past the end of the disk");
        self.file.write_all_at(bytes, offset).expect("the shadow takes a write");
    }

    /// Makes a range read as zeros.
    pub fn zero(&self, offset: u64, len: u64) {
        assert!(offset + len <= self.size_bytes(), "zeros past the end of the disk");
        if len > 0 {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, flags, offset, len).expect("the shadow takes a hole");
        }
    }

    pub(super) fn resize(&self, bytes: u64) {
        self.file.set_len(bytes).expect("the shadow changes its size");
    }

    pub(super) fn apply(&self, op: DiskOp, discard: Discard) {
        match op {
            DiskOp::Write { offset, len, pattern: 0 } | DiskOp::WriteZeroes { offset, len, .. } => {
                self.zero(offset, len);
            }
            DiskOp::Write { offset, len, pattern } => self.fill(offset, len, pattern),
            DiskOp::Discard { offset, len } => {
                if let Some((start, end)) = discarded(discard, offset, len, self.size_bytes()) {
                    self.zero(start, end - start);
                }
            }
            DiskOp::Flush => {}
        }
    }

    fn fill(&self, offset: u64, len: u64, pattern: u8) {
        let buffer = vec![pattern; len.min(CHUNK_BYTES) as usize];
        for start in (offset..offset + len).step_by(CHUNK_BYTES as usize) {
            let bytes = (offset + len - start).min(CHUNK_BYTES) as usize;
            self.write(start, &buffer[..bytes]);
        }
    }

    /// Copies the shadow as it is now: one restore point to compare with later.
    pub fn copy_to(&self, path: &Path) -> Self {
        let copy = Self::create(path, self.size_bytes());
        let mut at = 0;
        while let Some((start, end)) = next_data(&self.file, at) {
            copy_range(&self.file, &copy.file, start, end);
            at = end;
        }
        copy
    }

    /// Compares with a raw file. Reads only what is data in either file.
    pub fn equals(&self, other_path: &Path) -> Result<(), Difference> {
        let other = File::open(other_path);
        let other = other.unwrap_or_else(|error| panic!("Cannot open {}: {error}", other_path.display()));
        let (shadow_bytes, other_bytes) = (self.size_bytes(), other.metadata().expect("a size").len());
        if shadow_bytes != other_bytes {
            return Err(Difference::Size { shadow_bytes, other_bytes });
        }
        let mut at = 0;
        loop {
            let next = [next_data(&self.file, at), next_data(&other, at)];
            let Some((start, end)) = next.into_iter().flatten().min() else { return Ok(()) };
            compare_range(&self.file, &other, start, end)?;
            at = end;
        }
    }
}

/// The part of a discard that reads as zeros afterwards.
fn discarded(discard: Discard, offset: u64, len: u64, disk_bytes: u64) -> Option<(u64, u64)> {
    let Discard::WholeUnits(unit) = discard else { return None };
    let start = offset.next_multiple_of(unit);
    let end = offset + len;
    let end = if end == disk_bytes { end } else { end - end % unit };
    (start < end).then_some((start, end))
}

/// The next range at or after `at` that the file system stores, or `None` when only a hole is left.
fn next_data(file: &File, at: u64) -> Option<(u64, u64)> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => Some((start, rustix::fs::seek(file, SeekFrom::Hole(start)).expect("data has an end"))),
        Err(rustix::io::Errno::NXIO) => None,
        Err(error) => panic!("Cannot find data after {at}: {error}"),
    }
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) {
    let mut buffer = vec![0; (end - start).min(CHUNK_BYTES) as usize];
    for at in (start..end).step_by(CHUNK_BYTES as usize) {
        let part = &mut buffer[..(end - at).min(CHUNK_BYTES) as usize];
        from.read_exact_at(part, at).expect("a shadow can be read");
        to.write_all_at(part, at).expect("a copy can be written");
    }
}

fn compare_range(shadow: &File, other: &File, start: u64, end: u64) -> Result<(), Difference> {
    let longest = (end - start).min(CHUNK_BYTES) as usize;
    let (mut left, mut right) = (vec![0; longest], vec![0; longest]);
    for at in (start..end).step_by(CHUNK_BYTES as usize) {
        let bytes = (end - at).min(CHUNK_BYTES) as usize;
        shadow.read_exact_at(&mut left[..bytes], at).expect("a shadow can be read");
        other.read_exact_at(&mut right[..bytes], at).expect("a disk can be read");
        if left[..bytes] != right[..bytes] {
            let pairs = left.iter().zip(&right);
            let index = pairs.take(bytes).position(|(one, two)| one != two).expect("they differ");
            let at = at + index as u64;
            return Err(Difference::Content { at, shadow: left[index], other: right[index] });
        }
    }
    Ok(())
}
