//! Files that are read by position now and then: of all of them, only the last used are open.
//!
//! A chain has as many streams and sidecars as points, and the system may allow no more than some hundred open files.

use crate::regular;
use rustix::process::{Resource, getrlimit};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Open files by the number of their owner, the last used at the end.
static OPEN: Mutex<VecDeque<(u64, Arc<File>)>> = Mutex::new(VecDeque::new());

/// The number of the next owner.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The most files in [`OPEN`]: a quarter of what the system allows, since others want some too.
static ROOM: LazyLock<usize> = LazyLock::new(|| {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (allowed / 4).clamp(4, 256) as usize
});

fn open_files() -> MutexGuard<'static, VecDeque<(u64, Arc<File>)>> {
    // No code that may panic runs with the lock held half way through a change.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A regular file that is opened when it is read, and stays open as long as few others are.
#[derive(Debug)]
pub(crate) struct Pooled {
    number: u64,
    path: PathBuf,
    /// Device and inode, by which a file that took its place is known.
    identity: (u64, u64),
    len: u64,
}

impl Pooled {
    /// Opens a file.
    ///
    /// # Errors
    /// Also of [`io::ErrorKind::InvalidInput`], when it is not a regular one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (file, about) = regular::open_described(path)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (path, identity, len) = (path.to_owned(), identity(&about), about.len());
        keep(number, &Arc::new(file));
        Ok(Self { number, path, identity, len })
    }

    /// Bytes of the file when it was opened first.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The open file.
    ///
    /// # Errors
    /// Also of [`io::ErrorKind::NotFound`], when another file took its place meanwhile.
    pub(crate) fn file(&self) -> io::Result<Arc<File>> {
        let mut open = open_files();
        if let Some(place) = open.iter().rposition(|(number, _)| *number == self.number) {
            let file = open[place].1.clone();
            if place + 1 < open.len() {
                let last = open.remove(place);
                open.extend(last);
            }
            return Ok(file);
        }
        drop(open);
        let (file, about) = regular::open_described(&self.path)?;
        if identity(&about) != self.identity {
            let message = format!("{} was replaced while it was read", self.path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let file = Arc::new(file);
        keep(self.number, &file);
        Ok(file)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let closed = {
            let mut open = open_files();
            let place = open.iter().rposition(|(number, _)| *number == self.number);
            place.and_then(|place| open.remove(place))
        };
        // Not with the lock held: that can take a while.
        drop(closed);
    }
}

fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

fn keep(number: u64, file: &Arc<File>) {
    // Like all reads here: a backup is read once, it must not push other things out of memory. Older kernels take no
    // notice.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::NoReuse);
    let closed: Vec<_> = {
        let mut open = open_files();
        open.push_back((number, file.clone()));
        let too_many = open.len().saturating_sub(*ROOM);
        open.drain(..too_many).collect()
    };
    // Not with the lock held: that can take a while.
    drop(closed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_closed_meanwhile_is_read_again_unless_another_took_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&path, b"content").unwrap();
        std::fs::write(&other, b"CONTENT").unwrap();
        let file = Pooled::open(&path).unwrap();
        let read = || {
            open_files().clear();
            let mut bytes = [0; 7];
            crate::blob::Blob::read_exact_at(&file, 0, &mut bytes).map(|()| bytes)
        };
        assert_eq!(read().unwrap(), *b"content");
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(Pooled::open(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
