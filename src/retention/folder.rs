//! Folders below the backup path, opened so that nothing can lead out of it.
//!
//! Each step goes from an open folder to one entry of it, and refuses links and places where another file system is
//! mounted. Source: openat2(2), `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_XDEV` (Linux 5.6).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

/// Folders are followed so deep and no deeper: no layout of ours comes near it, and each level holds a file open.
const MAX_DEPTH: usize = 64;

/// Room for the entries that the kernel tells at once: all of a backup set, as a rule.
const LIST_BYTES: usize = 16 << 10;

/// A folder could not be entered or changed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there.
    #[error("{} is not there", .0.display())]
    Gone(PathBuf),
    /// A link where a folder belongs.
    #[error("{} is a link. Links are never followed when something is deleted: look where it leads, and remove it by hand", .0.display())]
    Link(PathBuf),
    /// Another file system.
    #[error("Another file system is mounted at {}. Nothing is deleted across file systems: unmount it first", .0.display())]
    Mount(PathBuf),
    /// Not a name of one entry.
    #[error("{name:?} cannot be an entry of {}", dir.display())]
    Name {
        /// The folder.
        dir: PathBuf,
        /// What was given.
        name: String,
    },
    /// Deeper than any backup.
    #[error("{} has more than {MAX_DEPTH} folders inside each other: that is no backup of ours", .0.display())]
    TooDeep(PathBuf),
    /// The kernel cannot keep us inside.
    #[error("Linux 5.6 or newer is needed to delete backups safely (openat2)")]
    OldKernel,
    /// Anything else the system said.
    #[error("Cannot {doing} {}: {source}", path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FolderError {
    pub(super) fn system(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::System { doing, path: path.to_owned(), source }
    }
}

/// Files with many names that were counted: device and inode.
pub(super) type SeenFiles = HashSet<(u64, u64)>;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// For messages.
    path: PathBuf,
    depth: usize,
}

/// One entry of a folder.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name, any bytes.
    pub(super) name: std::ffi::OsString,
    /// What it is.
    pub(super) kind: FileType,
}

impl Folder {
    /// The backup path itself. It may be reached through links: the administrator chose it.
    pub(super) fn root(path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|e| failed("open", path, e))?;
        Ok(Self { fd, path: path.to_owned(), depth: 0 })
    }

    /// Where it is, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside.
    pub(super) fn child(&self, name: &OsStr) -> Result<Self, FolderError> {
        let path = self.path.join(self.checked(name)?);
        if self.depth == MAX_DEPTH {
            return Err(FolderError::TooDeep(path));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let fd = loop {
            match fs::openat2(&self.fd, name, flags, Mode::empty(), inside) {
                // A rename elsewhere got in between; see openat2(2).
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::LOOP) => return Err(FolderError::Link(path)),
                Err(Errno::XDEV) => return Err(FolderError::Mount(path)),
                Err(Errno::NOSYS) => return Err(FolderError::OldKernel),
                other => break other.map_err(|e| failed("open", &path, e))?,
            }
        };
        Ok(Self { fd, path, depth: self.depth + 1 })
    }

    /// A folder some levels down.
    pub(super) fn descend(&self, parts: &[&str]) -> Result<Self, FolderError> {
        let Some((first, rest)) = parts.split_first() else { return self.again() };
        rest.iter().try_fold(self.child(OsStr::new(first))?, |folder, part| folder.child(OsStr::new(part)))
    }

    fn again(&self) -> Result<Self, FolderError> {
        let fd = self.fd.try_clone().map_err(|source| FolderError::system("open", &self.path, source))?;
        Ok(Self { fd, path: self.path.clone(), depth: self.depth })
    }

    /// All entries, in no order.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, FolderError> {
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
        listed().map_err(|e| failed("list", &self.path, e))
    }

    /// What an entry is. `None` when it is not there. Links are not followed.
    pub(super) fn kind_of(&self, name: &str) -> Result<Option<FileType>, FolderError> {
        match fs::statat(&self.fd, self.checked(OsStr::new(name))?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed("look at", &self.path.join(name), e)),
        }
    }

    /// Where a link leads, as written. `None` for everything else.
    pub(super) fn link_target(&self, name: &str) -> Result<Option<PathBuf>, FolderError> {
        match fs::readlinkat(&self.fd, self.checked(OsStr::new(name))?, Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.to_bytes())))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(e) => Err(failed("read link", &self.path.join(name), e)),
        }
    }

    /// Moves an entry to a name in this or another folder.
    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), FolderError> {
        let (old, new) = (self.checked(OsStr::new(name))?, to.checked(OsStr::new(new))?);
        fs::renameat(&self.fd, old, &to.fd, new).map_err(|e| failed("rename", &self.path.join(name), e))
    }

    /// Lets two entries change places in one step. `Ok(false)` where the file system cannot.
    pub(super) fn exchange(&self, name: &str, other: &Self, new: &str) -> Result<bool, FolderError> {
        let (old, new) = (self.checked(OsStr::new(name))?, other.checked(OsStr::new(new))?);
        match fs::renameat_with(&self.fd, old, &other.fd, new, fs::RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(failed("rename", &self.path.join(name), e)),
        }
    }

    /// Makes a link.
    pub(super) fn link(&self, name: &str, target: &Path) -> Result<(), FolderError> {
        fs::symlinkat(target, &self.fd, self.checked(OsStr::new(name))?)
            .map_err(|e| failed("make link", &self.path.join(name), e))
    }

    /// Makes a folder, unless there is one.
    pub(super) fn make(&self, name: &str) -> Result<Self, FolderError> {
        match fs::mkdirat(&self.fd, self.checked(OsStr::new(name))?, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => self.child(OsStr::new(name)),
            Err(e) => Err(failed("create", &self.path.join(name), e)),
        }
    }

    /// Makes renames and removals durable.
    pub(super) fn sync(&self) -> Result<(), FolderError> {
        fs::fsync(&self.fd).map_err(|e| failed("sync", &self.path, e))
    }

    /// Removes a file or a link. One that is gone already is no error.
    pub(super) fn remove_file(&self, name: &OsStr) -> Result<(), FolderError> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes an empty folder. `Ok(false)` when it is not empty.
    pub(super) fn remove_empty(&self, name: &str) -> Result<bool, FolderError> {
        match fs::unlinkat(&self.fd, self.checked(OsStr::new(name))?, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(false),
            Err(e) => Err(failed("remove", &self.path.join(name), e)),
        }
    }

    /// Removes a folder and everything in it. Stops at the first thing that cannot be removed.
    pub(super) fn remove_tree(&self, name: &OsStr) -> Result<(), FolderError> {
        let inner = self.child(name)?;
        for entry in inner.entries()? {
            if entry.kind == FileType::Directory {
                inner.remove_tree(&entry.name)?;
            } else {
                inner.remove_file(&entry.name)?;
            }
        }
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    /// Enters every folder inside, so that a mount or a link in the way of [`Folder::remove_tree`] is found before
    /// anything is touched. Returns the bytes of everything, folders too: files with many names once. So counted `du -sb`
    /// before coreutils 9.2.
    pub(super) fn survey(&self) -> Result<u64, FolderError> {
        Ok(self.own_bytes()? + self.survey_inside(&mut SeenFiles::new())?)
    }

    fn survey_inside(&self, seen: &mut SeenFiles) -> Result<u64, FolderError> {
        let mut bytes = 0;
        for entry in self.entries()? {
            bytes += self.survey_entry(&entry, seen)?;
        }
        Ok(bytes)
    }

    /// The bytes of one entry and of everything in it. Files with many names count once for each `seen`.
    pub(super) fn survey_entry(&self, entry: &Entry, seen: &mut SeenFiles) -> Result<u64, FolderError> {
        let about = match fs::statat(&self.fd, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
            // Renamed or removed while we look.
            Err(Errno::NOENT) => return Ok(0),
            other => other.map_err(|e| failed("look at", &self.path.join(&entry.name), e))?,
        };
        let bytes = about.st_size.unsigned_abs();
        if entry.kind == FileType::Directory {
            return Ok(bytes + self.child(&entry.name)?.survey_inside(seen)?);
        }
        let counts = about.st_nlink < 2 || seen.insert((about.st_dev, about.st_ino));
        Ok(if counts { bytes } else { 0 })
    }

    /// The bytes of the folder itself, without what is in it.
    pub(super) fn own_bytes(&self) -> Result<u64, FolderError> {
        let about = fs::fstat(&self.fd).map_err(|e| failed("look at", &self.path, e))?;
        Ok(about.st_size.unsigned_abs())
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<(), FolderError> {
        match fs::unlinkat(&self.fd, self.checked(name)?, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(failed("remove", &self.path.join(name), e)),
        }
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

fn failed(doing: &'static str, path: &Path, errno: Errno) -> FolderError {
    match errno {
        Errno::NOENT => FolderError::Gone(path.to_owned()),
        other => FolderError::system(doing, path, other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(dir: &Path) -> Folder {
        Folder::root(dir).unwrap()
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
        assert!(matches!(root.descend(&["link"]), Err(FolderError::Link(_))));
        assert!(matches!(root.descend(&["vm", "self"]), Err(FolderError::Link(_))));
        assert!(matches!(root.descend(&["no"]), Err(FolderError::Gone(_))));
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
    fn bytes_are_those_of_all_files_and_folders_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/one"), vec![0; 5000]).unwrap();
        std::fs::hard_link(dir.path().join("a/one"), dir.path().join("a/b/two")).unwrap();
        symlink("nowhere", dir.path().join("a/link")).unwrap();
        let mut find = std::process::Command::new("find");
        let found = find.arg(dir.path()).args(["-printf", "%i %s\\n"]).output().unwrap();
        let sizes: std::collections::BTreeMap<String, u64> = String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(inode, size)| (inode.to_owned(), size.parse().unwrap()))
            .collect();
        let want: u64 = sizes.values().sum();
        assert_eq!(root(dir.path()).survey().unwrap(), want);
    }
}
