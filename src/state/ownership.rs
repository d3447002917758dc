//! Who owns the backups: `root:backup`, folders with the set-group-ID bit, so that what is written in them belongs to
//! the group too. The group may read, and nobody else.
//!
//! Nothing here follows a symbolic link. What only root may read is never given to the group (`private`).

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::private;

/// The group's name, and its number on Debian.
const GROUP: &str = "backup";
const GROUP_NUMBER: u32 = 34;

/// The set-group-ID bit.
const SET_GROUP_ID: u32 = 0o2000;

/// What those who are neither root nor in the group may do.
const OTHERS: u32 = 0o007;

/// Mode of the backup path.
const PATH_MODE: u32 = 0o2750;

/// Deeper than any backup; a folder tree made to exhaust us is left alone from there.
pub(super) const MAX_DEPTH: u32 = 64;

/// The owner of the backups on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    group: Gid,
}

/// What was put in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files and folders whose owner or mode was changed.
    pub changed: u64,
    /// What could not be: the first of them, and how many.
    pub failed: Option<(String, u64)>,
}

impl Ownership {
    /// The group, if this host has it. Touches nothing.
    pub fn known() -> Option<Self> {
        let local = group_in(&fs::read_to_string("/etc/group").unwrap_or_default());
        local.or_else(group_of_services).map(|number| Self { group: Gid::from_raw(number) })
    }

    /// What owner and mode of a backup path are, when they are not what they should be. Touches nothing.
    pub fn fault(self, backup_path: &Path) -> io::Result<Option<String>> {
        let about = fs::metadata(backup_path)?;
        let (owner, group, mode) = (about.uid(), about.gid(), about.mode() & 0o7777);
        let ready =
            owner == 0 && group == self.group.as_raw() && mode & SET_GROUP_ID != 0 && mode & OTHERS == 0;
        Ok((!ready).then(|| format!("belongs to UID {owner} and GID {group}, mode {mode:o}")))
    }

    /// Finds the group, and creates it where it is missing.
    ///
    /// # Errors
    /// What to tell people when there is no such group and none can be made. Backups then belong to whoever makes them.
    pub fn of_host() -> Result<Self, String> {
        if let Some(known) = Self::known() {
            return Ok(known);
        }
        let (number, name) = (GROUP_NUMBER.to_string(), GROUP);
        let with_number: &[&str] = &["--system", "--gid", &number, name];
        let made = [with_number, &["--system", name]].iter().any(|arguments| succeeds("groupadd", arguments));
        Self::known().filter(|_| made).ok_or_else(|| {
            format!("There is no group '{GROUP}' and none could be made (groupadd --system --gid {number} {name}): backups stay with the group of this process")
        })
    }

    /// Gives a backup path that is not ready yet to root and the group, with everything in it. True when it did.
    pub fn bootstrap(self, backup_path: &Path) -> Result<Option<Swept>, Errno> {
        // The path itself may be a link: that is the administrator's choice.
        let path =
            fs::canonicalize(backup_path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::NOENT))?;
        let dir = open_dir(rustix::fs::CWD, &path)?;
        let about = rustix::fs::fstat(&dir)?;
        if about.st_gid == self.group.as_raw() && about.st_mode & SET_GROUP_ID != 0 {
            return Ok(None);
        }
        rustix::fs::fchown(&dir, Some(Uid::ROOT), Some(self.group))?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(PATH_MODE))?;
        let mut swept = Swept { changed: 1, failed: None };
        self.sweep_below(&dir, 0, &mut swept);
        Ok(Some(swept))
    }

    /// Gives a folder and everything in it to root and the group. Modes of files stay, folders get the bit.
    pub fn sweep(self, folder: &Path) -> Swept {
        let mut swept = Swept::default();
        match open_dir(rustix::fs::CWD, folder) {
            Ok(dir) => self.own_dir(&dir, 0, folder.to_string_lossy().as_ref(), &mut swept),
            Err(error) => swept.fail(&folder.to_string_lossy(), error),
        }
        swept
    }

    fn own_dir(self, dir: &OwnedFd, depth: u32, name: &str, swept: &mut Swept) {
        match self.own_opened(dir) {
            Ok(changed) => swept.changed += u64::from(changed),
            Err(error) => swept.fail(name, error),
        }
        self.sweep_below(dir, depth, swept);
    }

    fn own_opened(self, dir: &OwnedFd) -> Result<bool, Errno> {
        let about = rustix::fs::fstat(dir)?;
        let (owner, bit) = (!self.owns(&about), about.st_mode & SET_GROUP_ID == 0);
        if owner {
            rustix::fs::fchown(dir, Some(Uid::ROOT), Some(self.group))?;
        }
        if owner || bit {
            rustix::fs::fchmod(dir, Mode::from_raw_mode(about.st_mode & 0o7777 | SET_GROUP_ID))?;
        }
        Ok(owner || bit)
    }

    fn sweep_below(self, dir: &OwnedFd, depth: u32, swept: &mut Swept) {
        private::each(dir, depth, swept, &mut |name, kind, swept| {
            if private::is_private(name, kind) {
                return private::close(dir.as_fd(), name, depth, swept);
            }
            let text = || name.to_string_lossy().into_owned();
            match self.own_entry(dir.as_fd(), name) {
                Ok(Entry::Folder(inner)) => self.own_dir(&inner, depth + 1, &text(), swept),
                Ok(Entry::Changed) => swept.changed += 1,
                // Gone since it was listed: a file under way got its final name.
                Ok(Entry::AsItIs) | Err(Errno::NOENT) => {}
                Err(error) => swept.fail(&text(), error),
            }
        });
    }

    fn own_entry(self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Entry, Errno> {
        let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory => open_dir(dir, name).map(Entry::Folder),
            FileType::RegularFile if !self.owns(&about) => {
                rustix::fs::chownat(dir, name, Some(Uid::ROOT), Some(self.group), AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(Entry::Changed)
            }
            _ => Ok(Entry::AsItIs),
        }
    }

    fn owns(self, about: &Stat) -> bool {
        about.st_uid == 0 && about.st_gid == self.group.as_raw()
    }
}

enum Entry {
    Folder(OwnedFd),
    Changed,
    AsItIs,
}

impl Swept {
    pub(super) fn fail(&mut self, name: &str, error: Errno) {
        let (_, count) = self.failed.get_or_insert_with(|| (format!("{name}: {error}"), 0));
        *count += 1;
    }
}

/// Opens a folder itself, never what a link in its place leads to.
pub(super) fn open_dir<P: rustix::path::Arg>(dir: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// The number of the group in the text of `/etc/group`.
fn group_in(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(GROUP);
        fields.nth(1).filter(|_| found)?.parse().ok()
    })
}

/// The number of a group that another service of the host knows, such as LDAP.
fn group_of_services() -> Option<u32> {
    let output = Command::new("getent").args(["group", GROUP]).stdin(Stdio::null()).output().ok()?;
    group_in(&String::from_utf8_lossy(&output.stdout))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_exact_name() {
        assert_eq!(group_in("root:x:0:\nbackup:x:34:\n"), Some(34));
        assert_eq!(group_in("backups:x:35:\nmybackup:x:36:\nbackup:x:1034:a,b\n"), Some(1034));
        assert_eq!(group_in("backup:x\nbackup2:x:1:"), None);
    }
}
