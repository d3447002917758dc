//! Folders and files below one folder, reached without following a link: what a journal names must not lead elsewhere.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use vmstore::presence::found;

/// A folder that is held: renaming it or putting a link in its place does not lead elsewhere.
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// A folder below `root`, which itself may be a link. `None` when it is not there.
    ///
    /// # Errors
    /// Also when a part of the path is a link, or leads out of `root` by its text.
    pub(crate) fn open(root: &Path, below: &Path) -> io::Result<Option<Self>> {
        let root = found(rustix::fs::open(root, FLAGS, Mode::empty()).map_err(io::Error::from))?;
        root.map_or(Ok(None), |root| Self(root).enter(below))
    }

    fn enter(self, below: &Path) -> io::Result<Option<Self>> {
        let mut at = self;
        for part in below.components() {
            let Component::Normal(name) = part else { return Err(outside(below)) };
            let opened = rustix::fs::openat(&at.0, name, FLAGS | OFlags::NOFOLLOW, Mode::empty());
            match found(opened.map_err(|error| named(error, below)))? {
                Some(inner) => at = Self(inner),
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// A path that leads to the very folder that is held.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// What bears a name; `None` when nothing does.
    pub(crate) fn lstat(&self, below: &Path) -> io::Result<Option<Stat>> {
        let Some((holder, name)) = self.holder(below)? else { return Ok(None) };
        let about = rustix::fs::statat(&holder.0, name, AtFlags::SYMLINK_NOFOLLOW);
        found(about.map_err(io::Error::from))
    }

    /// Removes a file. `Ok(false)` when there is none.
    pub(crate) fn remove(&self, below: &Path) -> io::Result<bool> {
        let Some((holder, name)) = self.holder(below)? else { return Ok(false) };
        let removed = rustix::fs::unlinkat(&holder.0, name, AtFlags::empty());
        found(removed.map_err(io::Error::from)).map(|removed| removed.is_some())
    }

    /// Makes what was removed beside `below` durable.
    pub(crate) fn sync_folder_of(&self, below: &Path) -> io::Result<()> {
        let Some((holder, _)) = self.holder(below)? else { return Ok(()) };
        vmstore::durable::sync_folder(&holder.path())
    }

    fn holder<'a>(&self, below: &'a Path) -> io::Result<Option<(Self, &'a Path)>> {
        let (Some(name), Some(folder)) = (below.file_name(), below.parent()) else {
            return Err(outside(below));
        };
        let again = Self(self.0.try_clone()?);
        Ok(again.enter(folder)?.map(|holder| (holder, Path::new(name))))
    }
}

/// The first link on the way from `root` to a folder below it, with what it leads to; no part of it need be there.
pub(crate) fn link_in(root: &Path, folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let below: Vec<_> = folder.ancestors().take_while(|part| *part != root).collect();
    below.into_iter().rev().find_map(|part| Some((part.to_owned(), std::fs::read_link(part).ok()?)))
}

const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn outside(path: &Path) -> io::Error {
    io::Error::other(format!("{} does not lead to something below", path.display()))
}

/// Opening a link as a folder says "not a directory".
fn named(error: Errno, path: &Path) -> io::Error {
    match error {
        Errno::NOTDIR | Errno::LOOP => {
            io::Error::other(format!("a part of {} is a link or no folder", path.display()))
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_and_nothing_outside_is_reached() {
        let temp = tempfile::tempdir().unwrap();
        let (root, other) = (temp.path().join("root"), temp.path().join("other"));
        fs::create_dir_all(root.join("web/checkpoints")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("precious"), "").unwrap();
        symlink(&other, root.join("link")).unwrap();
        symlink(&other, root.join("web/linked")).unwrap();
        assert!(Folder::open(&root, Path::new("link")).is_err());
        assert!(Folder::open(&root, Path::new("../other")).is_err());
        assert!(Folder::open(&root, Path::new("none")).unwrap().is_none());
        let web = Folder::open(&root, Path::new("web")).unwrap().unwrap();
        for name in ["linked/precious", "../../other/precious", "/etc/passwd"] {
            assert!(web.remove(Path::new(name)).is_err(), "{name}");
        }
        assert!(other.join("precious").exists());
        fs::write(root.join("web/checkpoints/x.xml"), "").unwrap();
        assert!(web.lstat(Path::new("checkpoints/x.xml")).unwrap().is_some());
        assert!(web.remove(Path::new("checkpoints/x.xml")).unwrap());
        assert!(!web.remove(Path::new("checkpoints/x.xml")).unwrap());
        assert!(!web.remove(Path::new("none/x.xml")).unwrap());
        assert!(web.remove(Path::new("linked")).unwrap(), "a link itself can go");
    }
    #[test]
    fn a_link_is_found_where_a_folder_cannot_be_opened() {
        let temp = tempfile::tempdir().unwrap();
        // Which itself may be a link.
        let (real, root) = (temp.path().join("real"), temp.path().join("root"));
        fs::create_dir_all(real.join("web/202611")).unwrap();
        symlink(&real, &root).unwrap();
        symlink("/elsewhere", root.join("moved")).unwrap();
        symlink("web", root.join("near")).unwrap();
        symlink("202611", root.join("web/202612")).unwrap();
        for (below, link) in [
            ("web", None),
            ("web/202611", None),
            ("web/202701", None),
            ("new/202611", None),
            ("moved/202611", Some("moved")),
            ("near/202611", Some("near")),
            ("web/202612", Some("web/202612")),
        ] {
            let found = link_in(&root, &root.join(below)).map(|(link, _)| link);
            assert_eq!(found, link.map(|link| root.join(link)), "{below}");
            assert_eq!(Folder::open(&root, Path::new(below)).is_err(), link.is_some(), "{below}");
        }
    }
}
