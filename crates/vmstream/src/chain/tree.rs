//! A whole tree of backups: every folder below a place that holds a backup set, archives too.

use super::definition::Definition;
use super::folders::{is_of_programs, is_of_storage, is_tpm_state};
use super::ident::PointId;
use super::names::SetFile;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders are followed so deep and no deeper: no layout of ours comes near it.
const MAX_DEPTH: usize = 16;

/// What a look through a tree found.
#[derive(Debug, Default)]
pub struct Tree {
    /// Folders with a backup set, or what is left of one: in the order of their names, those behind links last.
    pub sets: Vec<PathBuf>,
    /// Folders that could not be listed: what they hold is unknown.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Folders that were not entered, with the reason, and that hold no set of this tree.
    pub passed_over: Vec<(PathBuf, &'static str)>,
    /// Device and inode of every folder that was entered.
    seen: BTreeSet<(u64, u64)>,
}

impl Tree {
    /// Looks at `root` and everything below it. Links to folders are followed once all else is seen, each folder is looked
    /// at once.
    pub fn of(root: &Path) -> Self {
        let (mut tree, mut links) = (Self::default(), Vec::new());
        tree.visit(root, 0, &mut links);
        while !links.is_empty() {
            links.sort();
            for (link, depth) in std::mem::take(&mut links) {
                if leads_up(&link, root) {
                    tree.passed_over.push((link, "it leads to a folder that this one is in"));
                } else {
                    tree.visit(&link, depth, &mut links);
                }
            }
        }
        tree
    }

    fn visit(&mut self, dir: &Path, depth: usize, links: &mut Vec<(PathBuf, usize)>) {
        if dir.metadata().is_ok_and(|about| !self.seen.insert(id(&about))) {
            return;
        }
        if depth > MAX_DEPTH {
            let error = io::Error::other("it lies too deep: name it, to have it looked at");
            self.unreadable.push((dir.to_owned(), error));
            return;
        }
        let (mut is_set, mut says_no_disks, mut folders, mut linked) = (false, false, Vec::new(), Vec::new());
        let listed = std::fs::read_dir(dir).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_symlink() && entry.path().is_dir() {
                    linked.push(entry.path());
                } else {
                    let file = entry.file_name().to_str().and_then(SetFile::parse);
                    says_no_disks |= file == Some(SetFile::Identity(PointId::Copy));
                    is_set |= file.is_some_and(tells);
                }
            }
            Ok(())
        });
        if let Err(error) = listed {
            match whose_own(dir).filter(|_| error.kind() == io::ErrorKind::PermissionDenied) {
                Some(why) => self.passed_over.push((dir.to_owned(), why)),
                None => self.unreadable.push((dir.to_owned(), error)),
            }
        }
        is_set = is_set || (says_no_disks && Definition::of(dir).is_some());
        if is_set {
            self.sets.push(dir.to_owned());
        }
        let is_private = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| (depth == 0 && is_of_programs(name)) || (is_set && is_tpm_state(name)))
        };
        let is_of_storage = |path: &PathBuf| path.file_name().is_some_and(is_of_storage);
        let (shown, mut folders): (Vec<_>, Vec<_>) = folders.into_iter().partition(is_of_storage);
        let why = "the storage shows its own snapshots there";
        self.passed_over.extend(shown.into_iter().map(|path| (path, why)));
        linked.retain(|path| !is_private(path) && !is_of_storage(path));
        links.extend(linked.into_iter().map(|path| (path, depth + 1)));
        folders.retain(|path| !is_private(path));
        folders.sort();
        folders.iter().for_each(|folder| self.visit(folder, depth + 1, links));
    }
}

fn id(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

fn tells(file: SetFile) -> bool {
    use SetFile::{CheckpointList, Checksum, Sidecar, Stream};
    matches!(file, Stream { .. } | CheckpointList { .. } | Checksum { .. } | Sidecar { .. })
}

/// A link that leads to a folder above the tree: all of it would be looked at.
fn leads_up(link: &Path, root: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(link).zip(real(root)).is_some_and(|(target, root)| root.starts_with(target))
}

/// Why a folder that only root may enter holds no set, as far as its name tells.
fn whose_own(dir: &Path) -> Option<&'static str> {
    match dir.file_name()? {
        name if name == OsStr::new("lost+found") => {
            Some("only root may enter it; the file system keeps it for itself")
        }
        name if is_of_programs(name) => Some("only root may enter it; the programs keep it for themselves"),
        name if is_tpm_state(name) => Some("only root may enter it; it is called like the state of a TPM"),
        _ => None,
    }
}
