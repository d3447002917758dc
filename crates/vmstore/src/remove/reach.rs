//! Whether what a run puts into a chain's folder could be removed again.

use std::path::{Path, PathBuf};

use super::error::unless_gone;
use super::{Folder, FolderError};
use crate::file_system::mount_points;
use crate::layout::{ARCHIVES, is_of_storage};

/// Looks whether everything in a folder below the backup path can be reached for removing: no part of the way is a link, and
/// nothing is mounted below the VM's folder, on the way or in the folder. What is not there yet is in nobody's way, nor is what
/// the storage shows its snapshots in. The archives in the folder are not asked about: [`reach_archives`] does.
///
/// # Errors
/// What is in the way.
pub fn reach(backup_path: &Path, below: &Path) -> Result<(), FolderError> {
    if unless_gone(Folder::backup_path(backup_path)?.descend(below.components()))?.is_none() {
        return Ok(());
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::system("look at", &path, source)
    };
    // The system names mounts by their real paths.
    let folder = std::fs::canonicalize(backup_path).map_err(failed(backup_path))?.join(below);
    let points = mount_points().map_err(failed(Path::new("/proc/self/mountinfo")))?;
    let in_the_way = |point: &PathBuf| {
        let mut inside = point.strip_prefix(&folder).into_iter().flat_map(Path::components).peekable();
        let is_archived = inside.peek().is_some_and(|first| first.as_os_str() == ARCHIVES);
        inside.peek().is_some() && !is_archived && !inside.any(|part| is_of_storage(part.as_os_str()))
    };
    match points.into_iter().find(in_the_way) {
        Some(point) => Err(FolderError::Mount(point)),
        None => Ok(()),
    }
}

/// Looks whether a file of a folder below the backup path can have a second name in the archives there: they are no link, and
/// in the folder's file system. What is not there yet is in nobody's way.
///
/// # Errors
/// What is in the way.
pub fn reach_archives(backup_path: &Path, below: &Path) -> Result<(), FolderError> {
    let Some(folder) = unless_gone(Folder::backup_path(backup_path)?.descend(below.components()))? else {
        return Ok(());
    };
    let Some(archives) = unless_gone(folder.child(ARCHIVES.as_ref()))? else { return Ok(()) };
    // Volumes in one file system (btrfs) are mounted nowhere, and are as far from each other.
    match archives.device()? == folder.device()? {
        true => Ok(()),
        false => Err(FolderError::Mount(archives.path().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

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
            let found = match reach(&root, Path::new(below)) {
                Err(FolderError::Link(link)) => Some(link),
                other => other.map(|()| None).unwrap(),
            };
            assert_eq!(found, link.map(|link| root.join(link)), "{below}");
            assert_eq!(Folder::below(&root, Path::new(below)).is_err(), link.is_some(), "{below}");
        }
    }

    /// Where something is mounted for as long as this lives.
    struct Mounted<'a>(&'a Path);

    impl<'a> Mounted<'a> {
        fn at(path: &'a Path) -> Self {
            let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(path).status();
            assert!(mount.unwrap().success(), "{}", path.display());
            Self(path)
        }
    }

    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }

    #[test]
    fn a_vms_folder_may_be_where_something_is_mounted_and_nothing_below_it() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("a disk");
        fs::create_dir_all(real.join("web")).unwrap();
        let root = temp.path().join("root");
        symlink(&real, &root).unwrap();
        let web = root.join("web");
        let of_vm = Mounted::at(&web);
        for inner in ["202611/checkpoints", "202611/.archives/chain-2026-11-01", "202612"] {
            fs::create_dir_all(web.join(inner)).unwrap();
        }
        let told = |below: &str| match reach(&root, Path::new(below)) {
            Err(FolderError::Mount(point)) => Some(point),
            other => other.map(|()| None).unwrap(),
        };
        assert_eq!((told("web"), told("web/202611"), told("web/new")), (None, None, None));
        for (at, of_period, flat) in [
            ("202611", Some("root/web/202611"), Some("a disk/web/202611")),
            (
                "202611/checkpoints",
                Some("a disk/web/202611/checkpoints"),
                Some("a disk/web/202611/checkpoints"),
            ),
            ("202612", None, Some("a disk/web/202612")),
            ("202611/.archives/chain-2026-11-01", None, Some("a disk/web/202611/.archives/chain-2026-11-01")),
        ] {
            let path = web.join(at);
            let _mounted = Mounted::at(&path);
            fs::write(path.join("theirs"), "x").unwrap();
            let want = [of_period, flat].map(|point| point.map(|point| temp.path().join(point)));
            assert_eq!([told("web/202611"), told("web")], want, "{at}");
            // Removing stops there, and the rest is as it was.
            let vm = Folder::below(&root, Path::new("web")).unwrap().unwrap();
            let period = Path::new(at).components().next().unwrap();
            let refused = vm.remove(period.as_os_str());
            assert!(matches!(refused, Err(FolderError::Mount(_))), "{at}: {refused:?}");
            assert!(path.join("theirs").exists(), "{at}");
            assert!(web.join("202611/.archives").exists() || at == "202611", "{at}");
        }
        // What is not below it is not removed with it, whoever asks.
        let root = Folder::backup_path(&root).unwrap();
        assert!(matches!(root.remove(std::ffi::OsStr::new("web")), Err(FolderError::Mount(_))));
        assert!(!root.remove_empty("web").unwrap());
        assert!(web.join("202612").exists());
        drop(of_vm);
    }
}
