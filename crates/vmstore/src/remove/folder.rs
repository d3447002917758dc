//! An open folder, the steps from it to its entries, and changes to these.
//!
//! Each step refuses links and places where another file system is mounted. Source: openat2(2), `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_XDEV` (Linux 5.6).

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::FolderError;
use super::error::{MAX_DEPTH, unless_gone};

/// Room for the entries that the kernel tells at once: all of a backup set, as a rule.
const LIST_BYTES: usize = 16 << 10;

/// An open folder. Renaming it, or putting a link in its place, does not lead elsewhere.
#[derive(Debug)]
pub struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    depth: usize,
    /// On the folders in it a file system may be mounted: they are VMs'.
    is_backup_path: bool,
}

/// One entry of a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its name, any bytes.
    pub name: std::ffi::OsString,
    pub kind: FileType,
}

impl Folder {
    /// The backup path itself. It may be reached through links: the administrator chose it.
    pub fn backup_path(path: &Path) -> Result<Self, FolderError> {
        Ok(Self { is_backup_path: true, ..Self::open(path)? })
    }

    /// Another folder that is trusted to be what its path leads to.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|e| FolderError::of("open", path, e))?;
        Ok(Self { fd, path: path.to_owned(), depth: 0, is_backup_path: false })
    }

    /// A folder some levels below the backup path. `None` when it, or the backup path, is not there.
    pub fn below(backup_path: &Path, below: &Path) -> Result<Option<Self>, FolderError> {
        let folder = Self::backup_path(backup_path).and_then(|root| root.descend(below.components()));
        unless_gone(folder)
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path that leads to the very folder that is held.
    pub fn held_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// A folder inside.
    pub fn child(&self, name: &OsStr) -> Result<Self, FolderError> {
        self.enter(name, if self.is_backup_path { ResolveFlags::empty() } else { ResolveFlags::NO_XDEV })
    }

    fn enter(&self, name: &OsStr, mounts: ResolveFlags) -> Result<Self, FolderError> {
        let path = self.path.join(self.checked(name)?);
        if self.depth == MAX_DEPTH {
            return Err(FolderError::TooDeep(path));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = loop {
            match fs::openat2(&self.fd, name, flags, Mode::empty(), inside | mounts) {
                // A rename elsewhere got in between; see openat2(2).
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::LOOP) => return Err(FolderError::Link(path)),
                Err(Errno::XDEV) => return Err(FolderError::Mount(path)),
                Err(Errno::NOSYS) => return Err(FolderError::OldKernel),
                other => break other.map_err(|e| FolderError::of("open", &path, e))?,
            }
        };
        Ok(Self { fd, path, depth: self.depth + 1, is_backup_path: false })
    }

    /// A folder some levels down, by the name of one folder at a time.
    pub fn descend<N: AsRef<OsStr>>(&self, names: impl IntoIterator<Item = N>) -> Result<Self, FolderError> {
        names.into_iter().try_fold(self.again()?, |folder, name| folder.child(name.as_ref()))
    }

    fn again(&self) -> Result<Self, FolderError> {
        let fd = self.fd.try_clone().map_err(|source| FolderError::system("open", &self.path, source))?;
        Ok(Self { fd, path: self.path.clone(), ..*self })
    }

    /// The folder in which something some levels down lies, and its name there. `None` when that folder is not there.
    fn holder<'a>(&self, below: &'a Path) -> Result<Option<(Self, &'a OsStr)>, FolderError> {
        let (Some(name), Some(folder)) = (below.file_name(), below.parent()) else {
            let name = below.to_string_lossy().into_owned();
            return Err(FolderError::Name { dir: self.path.clone(), name });
        };
        Ok(unless_gone(self.descend(folder.components()))?.map(|holder| (holder, name)))
    }

    /// All entries, in no order.
    pub fn entries(&self) -> Result<Vec<Entry>, FolderError> {
        let listed = || {
            let (mut entries, mut room) = (Vec::new(), [MaybeUninit::uninit(); LIST_BYTES]);
            // Listed before, the folder stands at its end.
            fs::seek(&self.fd, SeekFrom::Start(0))?;
            let mut list = RawDir::new(&self.fd, &mut room);
            while let Some(entry) = list.next() {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                let kind = match entry.file_type() {
                    // Some file systems do not say.
                    FileType::Unknown => {
                        let about = fs::statat(&self.fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                        FileType::from_raw_mode(about.st_mode)
                    }
                    known => known,
                };
                entries.push(Entry { name: name.to_owned(), kind });
            }
            Ok(entries)
        };
        listed().map_err(|e| FolderError::of("list", &self.path, e))
    }

    /// What an entry is. `None` when it is not there. Links are not followed.
    pub fn kind_of(&self, name: &str) -> Result<Option<FileType>, FolderError> {
        let about = self.look(OsStr::new(name))?;
        Ok(about.map(|about| FileType::from_raw_mode(about.st_mode)))
    }

    /// What the system knows of something some levels down. `None` when it is not there. Links are not followed.
    pub fn look_below(&self, below: &Path) -> Result<Option<Stat>, FolderError> {
        let holder = self.holder(below)?;
        holder.map_or(Ok(None), |(holder, name)| holder.look(name))
    }

    fn look(&self, name: &OsStr) -> Result<Option<Stat>, FolderError> {
        let about = fs::statat(&self.fd, self.checked(name)?, AtFlags::SYMLINK_NOFOLLOW);
        unless_gone(about.map_err(|e| FolderError::of("look at", &self.path.join(name), e)))
    }

    /// Where a link leads, as written. `None` for everything else.
    pub fn link_target(&self, name: &str) -> Result<Option<PathBuf>, FolderError> {
        match fs::readlinkat(&self.fd, self.checked(OsStr::new(name))?, Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.to_bytes())))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(e) => Err(FolderError::of("read link", &self.path.join(name), e)),
        }
    }

    /// Moves an entry to a name in this or another folder.
    pub fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), FolderError> {
        let (old, new) = (self.checked(OsStr::new(name))?, to.checked(OsStr::new(new))?);
        fs::renameat(&self.fd, old, &to.fd, new)
            .map_err(|e| FolderError::of("rename", &self.path.join(name), e))
    }

    /// Lets two entries change places in one step. `Ok(false)` where the file system cannot.
    pub fn exchange(&self, name: &str, other: &Self, new: &str) -> Result<bool, FolderError> {
        let (old, new) = (self.checked(OsStr::new(name))?, other.checked(OsStr::new(new))?);
        match fs::renameat_with(&self.fd, old, &other.fd, new, fs::RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(FolderError::of("rename", &self.path.join(name), e)),
        }
    }

    /// Makes a link.
    pub fn link(&self, name: &str, target: &Path) -> Result<(), FolderError> {
        fs::symlinkat(target, &self.fd, self.checked(OsStr::new(name))?)
            .map_err(|e| FolderError::of("make link", &self.path.join(name), e))
    }

    /// Makes a folder, unless there is one.
    pub fn make(&self, name: &str) -> Result<Self, FolderError> {
        match fs::mkdirat(&self.fd, self.checked(OsStr::new(name))?, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => self.child(OsStr::new(name)),
            Err(e) => Err(FolderError::of("create", &self.path.join(name), e)),
        }
    }

    /// The file system, or the volume of one, that it lies in.
    pub(super) fn device(&self) -> Result<u64, FolderError> {
        let about = fs::fstat(&self.fd).map_err(|e| FolderError::of("look at", &self.path, e))?;
        Ok(about.st_dev)
    }

    /// Makes renames and removals in the folder durable.
    pub fn sync(&self) -> Result<(), FolderError> {
        fs::fsync(&self.fd).map_err(|e| FolderError::of("sync", &self.path, e))
    }

    /// Makes what was removed beside something some levels down durable.
    pub fn sync_beside(&self, below: &Path) -> Result<(), FolderError> {
        let holder = self.holder(below)?;
        holder.map_or(Ok(()), |(holder, _)| holder.sync())
    }

    /// Removes a file or a link. `Ok(false)` when there is none.
    pub fn remove_file(&self, name: &OsStr) -> Result<bool, FolderError> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes a file or a link some levels down. `Ok(false)` when there is none.
    pub fn remove_below(&self, below: &Path) -> Result<bool, FolderError> {
        let holder = self.holder(below)?;
        holder.map_or(Ok(false), |(holder, name)| holder.remove_file(name))
    }

    /// Removes an empty folder. `Ok(false)` when it is not empty, not there, or a file system is mounted on it.
    pub fn remove_empty(&self, name: &str) -> Result<bool, FolderError> {
        match fs::unlinkat(&self.fd, self.checked(OsStr::new(name))?, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::BUSY) => Ok(false),
            Err(e) => Err(FolderError::of("remove", &self.path.join(name), e)),
        }
    }

    /// Removes a folder and everything in it. Stops at the first thing that cannot be removed.
    pub fn remove_tree(&self, name: &OsStr) -> Result<(), FolderError> {
        let inner = self.enter(name, ResolveFlags::NO_XDEV)?;
        for entry in inner.entries()? {
            if entry.kind == FileType::Directory {
                inner.remove_tree(&entry.name)?;
            } else {
                inner.remove_file(&entry.name)?;
            }
        }
        self.unlink(name, AtFlags::REMOVEDIR).map(drop)
    }

    /// Removes whatever bears a name, a folder with everything in it: nothing of it when something in it cannot be entered.
    /// `Ok(false)` when nothing does.
    pub fn remove(&self, name: &OsStr) -> Result<bool, FolderError> {
        match self.look(name)?.map(|about| FileType::from_raw_mode(about.st_mode)) {
            Some(FileType::Directory) => {
                self.enter(name, ResolveFlags::NO_XDEV)?.survey()?;
                self.remove_tree(name).map(|()| true)
            }
            Some(_) => self.remove_file(name),
            None => Ok(false),
        }
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<bool, FolderError> {
        let removed = fs::unlinkat(&self.fd, self.checked(name)?, flags);
        let removed = removed.map_err(|e| FolderError::of("remove", &self.path.join(name), e));
        unless_gone(removed).map(|removed| removed.is_some())
    }

    /// A name that leads to an entry of this folder and nowhere else.
    fn checked<'a>(&self, name: &'a OsStr) -> Result<&'a OsStr, FolderError> {
        let bytes = name.as_bytes();
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0) {
            let name = name.to_string_lossy().into_owned();
            return Err(FolderError::Name { dir: self.path.clone(), name });
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(dir: &Path) -> Folder {
        Folder::backup_path(dir).unwrap()
    }

    #[test]
    fn names_and_links_lead_nowhere_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("keep"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("vm/202601")).unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        symlink(".", dir.path().join("vm/self")).unwrap();
        let root = root(dir.path());
        for name in ["", ".", "..", "vm/202601", "../vm", "a\0b"] {
            assert!(matches!(root.child(OsStr::new(name)), Err(FolderError::Name { .. })), "{name:?}");
        }
        assert!(matches!(root.descend(["link"]), Err(FolderError::Link(_))));
        assert!(matches!(root.descend(["vm", "self"]), Err(FolderError::Link(_))));
        assert!(matches!(root.descend(["no"]), Err(FolderError::Gone(_))));
        assert!(root.remove_tree(OsStr::new("link")).is_err());
        assert!(outside.path().join("keep").exists());
    }

    #[test]
    fn links_inside_are_removed_and_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("keep"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let doomed = dir.path().join("doomed/a/b");
        std::fs::create_dir_all(&doomed).unwrap();
        symlink(outside.path(), doomed.join("dir")).unwrap();
        symlink(outside.path().join("keep"), doomed.join("file")).unwrap();
        std::fs::write(doomed.join(OsStr::from_bytes(b"new\nline\xff")), "x").unwrap();
        let root = root(dir.path());
        root.remove_tree(OsStr::new("doomed")).unwrap();
        assert_eq!(root.entries().unwrap().len(), 0);
        assert!(outside.path().join("keep").exists());
    }

    #[test]
    fn what_lies_some_levels_down_is_reached_through_no_link_and_nothing_outside_is() {
        let temp = tempfile::tempdir().unwrap();
        let (root, other) = (temp.path().join("root"), temp.path().join("other"));
        std::fs::create_dir_all(root.join("web/checkpoints")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("precious"), "").unwrap();
        symlink(&other, root.join("link")).unwrap();
        symlink(&other, root.join("web/linked")).unwrap();
        assert!(Folder::below(&root, Path::new("link")).is_err());
        assert!(Folder::below(&root, Path::new("../other")).is_err());
        assert!(Folder::below(&root, Path::new("none")).unwrap().is_none());
        let web = Folder::below(&root, Path::new("web")).unwrap().unwrap();
        for name in ["linked/precious", "../../other/precious", "/etc/passwd"] {
            assert!(web.remove_below(Path::new(name)).is_err(), "{name}");
        }
        assert!(other.join("precious").exists());
        std::fs::write(root.join("web/checkpoints/x.xml"), "").unwrap();
        assert!(web.look_below(Path::new("checkpoints/x.xml")).unwrap().is_some());
        assert!(web.remove_below(Path::new("checkpoints/x.xml")).unwrap());
        assert!(!web.remove_below(Path::new("checkpoints/x.xml")).unwrap());
        assert!(!web.remove_below(Path::new("none/x.xml")).unwrap());
        assert!(web.remove_below(Path::new("linked")).unwrap(), "a link itself can go");
        assert!(web.remove(OsStr::new("checkpoints")).unwrap());
        assert!(!web.remove(OsStr::new("checkpoints")).unwrap());
    }
}
