//! A file that is written beside its final name, by one process at a time, and gets that name when it is durable.
//!
//! ```text
//! TARGET.partial: created, locked ─► written ─► synced ─► still the file of that name? ─► renamed to TARGET
//! ```
//! The lock says that somebody is writing: one that nobody holds is left of a process that was killed.

use crate::durable;
use crate::page_cache;
use crate::unfinished::{Unfinished, is_open_file};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Others may create and remove the file between two steps of ours, but not for ever.
const ATTEMPTS: u32 = 100;

/// What happens to a file that has the target's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// Why a new file could not be begun or got no name.
#[derive(Debug, thiserror::Error)]
pub enum NewFileError {
    /// The target is there already.
    #[error("{} exists already: choose another name, or give --force to replace it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// Something that is not a file has the name.
    #[error("{} exists already and is no regular file: choose another name", path.display())]
    NoFile {
        /// The name.
        path: PathBuf,
    },
    /// A process that was killed has left its unfinished file.
    #[error("{} is left of a run that was killed: remove it, or give --force", path.display())]
    LeftOver {
        /// The unfinished file.
        path: PathBuf,
    },
    /// Another process is writing the same target.
    #[error("{} is being written by another process right now: wait for it, or choose another name", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// Somebody has moved or exchanged the unfinished file.
    #[error("Somebody has moved or replaced {} while it was written: nothing has got the name of the target", path.display())]
    Exchanged {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The file is complete and has its name, and the folder could not be made durable.
    #[error(
        "{} is complete and in its place, but its name may be lost if the host fails now: its folder cannot be written", path.display()
    )]
    Named {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("Cannot write {}", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An open file beside its final name. Dropped before [`Partial::publish`], it is removed.
#[derive(Debug)]
pub struct Partial {
    /// Dropped first: the file goes while it is still locked.
    unfinished: Unfinished,
    file: File,
    path: PathBuf,
    target: PathBuf,
    existing: Existing,
}

impl Partial {
    /// Creates `TARGET.partial`, for its owner alone, and locks it. With [`Existing::Replace`] one that nobody is writing
    /// any more is removed first.
    ///
    /// # Errors
    /// [`NewFileError`]; nothing was changed then.
    pub fn create(target: &Path, existing: Existing) -> Result<Self, NewFileError> {
        let failed = |source| NewFileError::Write { path: target.to_owned(), source };
        let path = durable::partial_path(target).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        match std::fs::symlink_metadata(target) {
            Ok(about) if !about.is_file() => return Err(NewFileError::NoFile { path: target.to_owned() }),
            Ok(_) if existing == Existing::Keep => {
                return Err(NewFileError::Exists { path: target.to_owned() });
            }
            _ => {}
        }
        for _ in 0..ATTEMPTS {
            // A disk's content is nobody else's business: owner only, as libvirt keeps its images.
            let made = Unfinished::file(&path, || {
                OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)
            });
            match made {
                Ok((file, unfinished)) => {
                    // Whoever met it before it was locked took it for a left one.
                    if own(&file).map_err(failed)? && is_open_file(&path, &file) {
                        return Ok(Self { unfinished, file, path, target: target.to_owned(), existing });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_left(&path, existing)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(NewFileError::Busy { path })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable, which may take minutes. [`Partial::publish`] has little left to do then.
    ///
    /// # Errors
    /// [`NewFileError::Write`].
    pub(super) fn sync(&self) -> Result<(), NewFileError> {
        let failed = |source| NewFileError::Write { path: self.target.clone(), source };
        self.file.sync_all().map_err(failed)?;
        // What is on the disk needs no room in memory. An older file system may not know the call.
        page_cache::let_go(&self.file);
        Ok(())
    }

    /// Makes the file durable and gives it its name, if the unfinished name is still that of this very file.
    ///
    /// # Errors
    /// [`NewFileError`], also when the target has appeared meanwhile and may not be replaced.
    pub fn publish(self) -> Result<(), NewFileError> {
        self.sync()?;
        let Self { unfinished, file, path, target, existing } = self;
        let failed = |source| NewFileError::Write { path: target.clone(), source };
        let dir = match target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        // While the old target is still there: what fails later fails with the new one in its place.
        let dir = File::open(dir).map_err(failed)?;
        unfinished.finish(|| {
            if !is_open_file(&path, &file) {
                return Err(NewFileError::Exchanged { path: path.clone() });
            }
            let renamed = match existing {
                Existing::Replace => std::fs::rename(&path, &target),
                Existing::Keep => durable::rename_new(&path, &target),
            };
            renamed.map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => NewFileError::Exists { path: target.clone() },
                _ => failed(source),
            })?;
            // Between the look and the rename somebody may have exchanged it all the same.
            if is_open_file(&target, &file) { Ok(()) } else { Err(NewFileError::Exchanged { path }) }
        })?;
        dir.sync_all().map_err(|source| NewFileError::Named { path: target.clone(), source })
    }
}

/// Removes an unfinished file that nobody writes any more.
fn remove_left(path: &Path, existing: Existing) -> Result<(), NewFileError> {
    let failed = |source| NewFileError::Write { path: path.to_owned(), source };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let left = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(NewFileError::NoFile { path: path.to_owned() });
        }
        opened => opened.map_err(failed)?,
    };
    if !left.metadata().map_err(failed)?.is_file() {
        return Err(NewFileError::NoFile { path: path.to_owned() });
    }
    if !own(&left).map_err(failed)? {
        return Err(NewFileError::Busy { path: path.to_owned() });
    }
    if existing == Existing::Keep {
        return Err(NewFileError::LeftOver { path: path.to_owned() });
    }
    if is_open_file(path, &left) { std::fs::remove_file(path).map_err(failed) } else { Ok(()) }
}

/// Takes the lock of who writes the file; false when another process has it. It goes with the last descriptor, also
/// when its process is killed.
///
/// It is on the first byte: QEMU, which fills a qcow2 file for us meanwhile, has its own on bytes from 100 on.
fn own(file: &File) -> io::Result<bool> {
    let first_byte = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&first_byte)) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        // A file system without locks: its identity is looked at before it gets its name.
        Err(nix::Error::ENOLCK | nix::Error::EOPNOTSUPP | nix::Error::ENOSYS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::io::Write;

    fn files(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_that_somebody_writes_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.raw");
        let first = Partial::create(&target, Existing::Replace).unwrap();
        first.file().write_all(b"first").unwrap();
        for existing in [Existing::Keep, Existing::Replace] {
            let refused = Partial::create(&target, existing).unwrap_err();
            assert!(matches!(refused, NewFileError::Busy { .. }), "{refused}");
        }
        first.publish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"first");
        assert_eq!(files(dir.path()), ["disk.raw"]);
    }

    #[test]
    fn one_that_a_killed_process_left_goes_when_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.raw");
        std::fs::write(dir.path().join("disk.raw.partial"), "left").unwrap();
        let refused = Partial::create(&target, Existing::Keep).unwrap_err();
        assert!(matches!(refused, NewFileError::LeftOver { .. }), "{refused}");
        drop(Partial::create(&target, Existing::Replace).unwrap());
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("disk.raw.partial")).unwrap();
        let refused = Partial::create(&dir.path().join("disk.raw"), Existing::Replace).unwrap_err();
        assert!(matches!(refused, NewFileError::NoFile { .. }), "{refused}");
        assert_eq!(std::fs::read(&precious).unwrap(), b"kept");
    }

    #[test]
    fn another_file_of_that_name_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.raw");
        let ours = Partial::create(&target, Existing::Replace).unwrap();
        let path = ours.path.clone();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "half of another").unwrap();
        let refused = ours.publish().unwrap_err();
        assert!(matches!(refused, NewFileError::Exchanged { .. }), "{refused}");
        assert_eq!(files(dir.path()), ["disk.raw.partial"]);
    }

    #[test]
    fn a_target_that_appeared_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.raw");
        let ours = Partial::create(&target, Existing::Keep).unwrap();
        std::fs::write(&target, "theirs").unwrap();
        let refused = ours.publish().unwrap_err();
        assert!(matches!(refused, NewFileError::Exists { .. }), "{refused}");
        assert_eq!(std::fs::read(&target).unwrap(), b"theirs");
        assert_eq!(files(dir.path()), ["disk.raw"]);
    }
}
