//! An output file written in large aligned blocks, past the page cache where the file system allows it.
//!
//! A backup writes gigabytes that nobody reads soon: through the page cache they would push out what the guests
//! of the host need, and be slower. Must not live here: what the bytes mean (`writer`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memmap2::MmapMut;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{fresh, page_cache};

/// Mode of a stream.
const MODE: u32 = 0o640;

/// Bytes per write. Direct I/O wants memory, offset and length to be multiples of the device's block: a page serves all.
const BLOCK: usize = 4 << 20;

/// A file under construction, written front to back. Its first bytes can be replaced at the end.
pub struct Output {
    file: File,
    direct: bool,
    /// Pages of its own, so that it begins where direct I/O may.
    buffer: MmapMut,
    filled: usize,
    written: u64,
}

impl Output {
    /// Creates `path` in the place of what is there.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (file, direct) = match fresh::create_with(path, MODE, OFlags::DIRECT) {
            Ok(file) => (file, true),
            // tmpfs before Linux 6.6 and some network file systems have no direct I/O. The file may be there all the same.
            Err(e) if is_invalid(&e) => (fresh::create(path, MODE)?, false),
            Err(e) => return Err(e),
        };
        let buffer = MmapMut::map_anon(BLOCK)?;
        Ok(Self { file, direct, buffer, filled: 0, written: 0 })
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// True before the first byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = BLOCK - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BLOCK {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// Writes the rest, and puts `head` over the first bytes.
    pub fn finish(mut self, head: &[u8]) -> io::Result<File> {
        if self.direct {
            // The tail is no multiple of the block, and the head lies inside one.
            self.stop_direct()?;
        }
        self.write_block()?;
        self.file.write_all_at(head, 0)?;
        page_cache::let_go(&self.file);
        Ok(self.file)
    }

    fn write_block(&mut self) -> io::Result<()> {
        let block = &self.buffer[..self.filled];
        match self.file.write_all_at(block, self.written) {
            // Some file systems accept the flag at open and refuse the write.
            Err(e) if self.direct && is_invalid(&e) => {
                self.stop_direct()?;
                self.file.write_all_at(&self.buffer[..self.filled], self.written)?;
            }
            other => other?,
        }
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn stop_direct(&mut self) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.file)?;
        rustix::fs::fcntl_setfl(&self.file, flags.difference(OFlags::DIRECT))?;
        self.direct = false;
        Ok(())
    }
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_what_was_appended_with_the_head_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for total in [0, 1, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 777] {
            let path = dir.path().join("out");
            let mut want: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
            let mut output = Output::create(&path).unwrap();
            for piece in want.chunks(100_003) {
                output.append(piece).unwrap();
            }
            assert_eq!(output.len(), total as u64);
            let head = &b"head"[..total.min(4)];
            output.finish(head).unwrap();
            want[..head.len()].copy_from_slice(head);
            assert!(std::fs::read(&path).unwrap() == want, "{total} bytes");
        }
    }
}
