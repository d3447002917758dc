//! Goes through the entries of an open folder, one at a time, for code that changes owners and modes. No link is followed; failures are counted.
//!
//! Must not live here: what is changed and for whom (`ownership`, `private`).

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Deeper than any backup; a folder tree made to exhaust us is left alone from there.
const MAX_DEPTH: u32 = 64;

/// What was put in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files and folders whose owner or mode was changed.
    pub changed: u64,
    /// What could not be: the first of them, and how many.
    pub failed: Option<(String, u64)>,
}

impl Swept {
    pub(crate) fn add(&mut self, other: Self) {
        self.changed += other.changed;
        if let Some((first, count)) = other.failed {
            let so_far = self.failed.get_or_insert((first, 0));
            so_far.1 += count;
        }
    }

    pub(crate) fn fail(&mut self, name: &str, error: Errno) {
        let (_, count) = self.failed.get_or_insert_with(|| (format!("{name}: {error}"), 0));
        *count += 1;
    }
}

/// Opens a folder itself, never what a link in its place leads to.
pub(crate) fn open_dir<P: rustix::path::Arg>(dir: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// Asks for each entry of a folder, with what it is.
pub(crate) fn each(
    dir: &OwnedFd,
    depth: u32,
    swept: &mut Swept,
    ask: &mut dyn FnMut(&CStr, FileType, &mut Swept),
) {
    let entries = match Dir::read_from(dir) {
        Ok(entries) if depth < MAX_DEPTH => entries,
        Ok(_) => return swept.fail("a folder", Errno::NAMETOOLONG),
        Err(error) => return swept.fail("a folder", error),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |about| FileType::from_raw_mode(about.st_mode)),
            known => known,
        };
        ask(name, kind, swept);
    }
}
