//! Who owns the backups: `root:backup`, folders with the set-group-ID bit, so that what is written in them belongs to
//! the group too. The group may read, nobody else may, and only root may write.
//!
//! Only what is the backups' is touched (`belongings`): a backup path on a volume that others use too stays as it is.
//! Nothing here follows a symbolic link. What only root may read is never given to the group (`private`).

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::belongings::{self, Belongings};
use crate::layout::{HOST_CONFIG, STATE};
use crate::sweep::{Swept, each, open_dir};
use crate::{StateDir, private};

/// The set-group-ID bit.
const SET_GROUP_ID: u32 = 0o2000;

/// What nobody may do on a backup path but its owner: others anything, the group write.
const TOO_MUCH: u32 = 0o027;

/// Writing, for all but the owner. Whoever may write in a folder can plant links in it.
const WRITING: u32 = 0o022;

/// Mode of the backup path.
const PATH_MODE: u32 = 0o2750;

/// The owner of the backups on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    group: Gid,
}

impl Ownership {
    /// With the group of this number.
    pub fn of_group(number: u32) -> Self {
        Self { group: Gid::from_raw(number) }
    }

    /// What owner and mode of a backup path are, when they are not what they should be. Touches nothing.
    pub fn fault(self, backup_path: &Path) -> io::Result<Option<String>> {
        let about = fs::metadata(backup_path)?;
        let (owner, group, mode) = (about.uid(), about.gid(), about.mode() & 0o7777);
        let ready =
            owner == 0 && group == self.group.as_raw() && mode & SET_GROUP_ID != 0 && mode & TOO_MUCH == 0;
        Ok((!ready).then(|| format!("belongs to UID {owner} and GID {group}, mode {mode:o}")))
    }

    /// Gives a backup path that is not ready yet to root and the group, with all that is the backups' in it.
    ///
    /// Where it holds something else too, the path itself keeps owner and mode, and the folders of VMs get theirs.
    pub fn bootstrap(self, backup_path: &Path) -> io::Result<Order> {
        if self.fault(backup_path)?.is_none() {
            return Ok(Order::Ready);
        }
        // The path itself may be a link: that is the administrator's choice.
        let path = fs::canonicalize(backup_path)?;
        let dir = open_dir(rustix::fs::CWD, &path)?;
        let Belongings { backups, others } = Belongings::of(&path)?;
        if others.is_empty() {
            rustix::fs::fchown(&dir, Some(Uid::ROOT), Some(self.group))?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(PATH_MODE))?;
            if self.fault(&path)?.is_some() {
                let said = "the file system keeps no owners and modes";
                return Err(io::Error::new(io::ErrorKind::Unsupported, said));
            }
        }
        let mut swept = Swept::default();
        // The host's own configuration is root's alone (`private`).
        for name in backups.iter().filter(|name| *name != HOST_CONFIG) {
            let folder = path.join(name);
            // On a path that stays as it is this is asked at every run.
            if others.is_empty() || !self.is_in_order(&folder) {
                swept.add(self.sweep(&folder));
            }
        }
        Ok(if others.is_empty() { Order::Given(swept) } else { Order::Shared { others, swept } })
    }

    /// Whether the folder itself is as it should be.
    fn is_in_order(self, folder: &Path) -> bool {
        let about = rustix::fs::lstat(folder);
        about.is_ok_and(|about| self.owns(&about) && about.st_mode & (SET_GROUP_ID | WRITING) == SET_GROUP_ID)
    }

    /// Gives a VM's folder, or our state folder, to root and the group, with everything in it but folders of other
    /// people's. The group may read what it could, and write nothing; folders get the bit.
    pub fn sweep(self, folder: &Path) -> Swept {
        let mut swept = Swept::default();
        match open_dir(rustix::fs::CWD, folder) {
            Ok(dir) => {
                self.own_noted(&dir, folder.to_string_lossy().as_ref(), &mut swept);
                let in_state = folder.ends_with(STATE);
                self.sweep_below(&dir, 0, &mut swept, &|name| {
                    in_state || !belongings::is_others(name, &folder.join(name))
                });
            }
            Err(error) => swept.fail(&folder.to_string_lossy(), error),
        }
        swept
    }

    /// Makes a folder in a backup path as `_state` is, so that nobody else sees what is written to it from the beginning. One
    /// that is there stays as it is.
    pub fn make_like_state(backup_path: &Path, folder: &Path) -> io::Result<()> {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        let Ok(like) = fs::metadata(StateDir::of(backup_path).path()) else { return Ok(()) };
        let dir = open_dir(rustix::fs::CWD, folder)?;
        // A file system without owners keeps its own.
        let _ = rustix::fs::fchown(&dir, None, Some(Gid::from_raw(like.gid())))
            .and_then(|()| rustix::fs::fchmod(&dir, Mode::from_raw_mode(like.mode() & 0o7777)));
        Ok(())
    }

    fn own_noted(self, dir: &OwnedFd, name: &str, swept: &mut Swept) {
        match self.own_opened(dir) {
            Ok(changed) => swept.changed += u64::from(changed),
            Err(error) => swept.fail(name, error),
        }
    }

    fn own_dir(self, dir: &OwnedFd, depth: u32, name: &str, swept: &mut Swept) {
        self.own_noted(dir, name, swept);
        self.sweep_below(dir, depth, swept, &|_| true);
    }

    fn own_opened(self, dir: &OwnedFd) -> Result<bool, Errno> {
        let about = rustix::fs::fstat(dir)?;
        let owner = !self.owns(&about);
        let mode = about.st_mode & 0o7777 & !WRITING | SET_GROUP_ID;
        if owner {
            rustix::fs::fchown(dir, Some(Uid::ROOT), Some(self.group))?;
        }
        let changes = owner || mode != about.st_mode & 0o7777;
        if changes {
            rustix::fs::fchmod(dir, Mode::from_raw_mode(mode))?;
        }
        Ok(changes)
    }

    /// `takes` is asked by name for each folder.
    fn sweep_below(self, dir: &OwnedFd, depth: u32, swept: &mut Swept, takes: &dyn Fn(&str) -> bool) {
        each(dir, depth, swept, &mut |name, kind, swept| {
            if private::is_private(name, kind) {
                return private::close(dir.as_fd(), name, depth, swept);
            }
            let text = || name.to_string_lossy().into_owned();
            if kind == FileType::Directory && !takes(&text()) {
                return;
            }
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
            FileType::RegularFile if !self.owns(&about) || about.st_mode & WRITING != 0 => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
                // Of what was opened, and without the bits that lend root's rights to whoever runs a stranger's file.
                let mode = rustix::fs::fstat(&file)?.st_mode & 0o777 & !WRITING;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
                rustix::fs::fchown(&file, Some(Uid::ROOT), Some(self.group))?;
                Ok(Entry::Changed)
            }
            _ => Ok(Entry::AsItIs),
        }
    }

    fn owns(self, about: &Stat) -> bool {
        about.st_uid == 0 && about.st_gid == self.group.as_raw()
    }
}

/// What became of a backup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It was as it should be.
    Ready,
    /// It belongs to root and the group now, with what is in it.
    Given(Swept),
    /// It holds what is no backup, and keeps its owner and mode.
    Shared {
        /// What that is, by name.
        others: Vec<String>,
        /// What was done to the backups in it.
        swept: Swept,
    },
}

enum Entry {
    Folder(OwnedFd),
    Changed,
    AsItIs,
}
