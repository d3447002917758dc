//! What only root may read, wherever in a backup path it lies and whoever wrote it: the state of TPMs, recovery keys, the
//! host's own configuration. The Bash program and virtnbdbackup leave such files open to the group that owns the backups.
//!
//! No link is followed.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::belongings::Belongings;
use crate::layout::HOST_CONFIG;
use crate::sweep::{Swept, each, open_dir};

/// Modes of what is for root alone.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What a virtual TPM keeps (`tpm-state`, and the copies of it for each restore point), the host's configuration, and the
/// files of recovery keys that virtnbdbackup writes beside a chain.
pub(super) fn is_private(name: &CStr, kind: FileType) -> bool {
    let name = name.to_bytes();
    if kind == FileType::RegularFile {
        return name.starts_with(b"bitlocker.recovery.key.");
    }
    name == HOST_CONFIG.as_bytes() || name == b"tpm-state" || name.starts_with(b".tpm-state.")
}

/// Closes everything private in the backups below a path to all but root. Counts what was open.
pub fn close_below(backup_path: &Path) -> Swept {
    let mut swept = Swept::default();
    let path = std::fs::canonicalize(backup_path).unwrap_or_else(|_| backup_path.to_owned());
    let found = Belongings::of(&path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    match found.and_then(|found| Ok((found, open_dir(rustix::fs::CWD, &path)?))) {
        Ok((found, dir)) => {
            let names: BTreeSet<&[u8]> = found.backups.iter().map(String::as_bytes).collect();
            look(&dir, 0, &mut swept, &|name| names.contains(name.to_bytes()));
        }
        Err(error) => swept.fail(&backup_path.to_string_lossy(), error),
    }
    swept
}

/// `takes` is asked by name for each entry.
fn look(dir: &OwnedFd, depth: u32, swept: &mut Swept, takes: &dyn Fn(&CStr) -> bool) {
    each(dir, depth, swept, &mut |name, kind, swept| {
        if !takes(name) {
            return;
        }
        if is_private(name, kind) {
            close(dir.as_fd(), name, depth, swept);
        } else if kind == FileType::Directory {
            match open_dir(dir, name) {
                Ok(inner) => look(&inner, depth + 1, swept, &|_| true),
                Err(Errno::NOENT) => {}
                Err(error) => swept.fail(&name.to_string_lossy(), error),
            }
        }
    });
}

/// Closes one entry with all that is in it.
pub(super) fn close(dir: BorrowedFd<'_>, name: &CStr, depth: u32, swept: &mut Swept) {
    match close_entry(dir, name, swept) {
        Ok(Some(inner)) => each(&inner, depth + 1, swept, &mut |name, _, swept| {
            close(inner.as_fd(), name, depth + 1, swept);
        }),
        Ok(None) | Err(Errno::NOENT) => {}
        Err(error) => swept.fail(&name.to_string_lossy(), error),
    }
}

/// Closes the entry itself, and opens it where it is a folder.
fn close_entry(dir: BorrowedFd<'_>, name: &CStr, swept: &mut Swept) -> Result<Option<OwnedFd>, Errno> {
    let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let (kind, mode) = match FileType::from_raw_mode(about.st_mode) {
        FileType::Directory => (OFlags::DIRECTORY, FOLDER_MODE),
        FileType::RegularFile => (OFlags::NONBLOCK, FILE_MODE),
        _ => return Ok(None),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    if !is_closed(&about) {
        // The mode first: a new group must not get what the old one had.
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode))?;
        rustix::fs::fchown(&opened, Some(Uid::ROOT), Some(Gid::ROOT))?;
        // A file system without owners and modes says yes to both.
        if !is_closed(&rustix::fs::fstat(&opened)?) {
            return Err(Errno::PERM);
        }
        swept.changed += 1;
    }
    Ok((mode == FOLDER_MODE).then_some(opened))
}

fn is_closed(about: &Stat) -> bool {
    (about.st_uid, about.st_gid, about.st_mode & 0o077) == (0, 0, 0)
}
