//! A whole tree of backups: every folder below a place that holds a backup set, archives too.

use super::names::SetFile;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Folders are followed so deep and no deeper: no layout of ours comes near it.
const MAX_DEPTH: usize = 16;

/// What a look through a tree found.
#[derive(Debug, Default)]
pub struct Tree {
    /// Folders with a backup set, in the order of their names.
    pub sets: Vec<PathBuf>,
    /// Folders that could not be listed: what they hold is unknown.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

impl Tree {
    /// Looks at `root` and everything below it. Links to folders are not followed.
    pub fn of(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.visit(root, 0);
        tree
    }

    fn visit(&mut self, dir: &Path, depth: usize) {
        let (mut is_set, mut folders) = (false, Vec::new());
        let listed = std::fs::read_dir(dir).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.extend(Some(entry.path()).filter(|_| !is_private(&entry.file_name())));
                } else {
                    let file = entry.file_name().to_str().and_then(SetFile::parse);
                    let tells =
                        |file| matches!(file, SetFile::Stream { .. } | SetFile::CheckpointList { .. });
                    is_set |= file.is_some_and(tells);
                }
            }
            Ok(())
        });
        if let Err(error) = listed {
            self.unreadable.push((dir.to_owned(), error));
        }
        if is_set {
            self.sets.push(dir.to_owned());
        }
        folders.sort();
        if depth < MAX_DEPTH {
            folders.iter().for_each(|folder| self.visit(folder, depth + 1));
        }
    }
}

/// Folders that only root may enter, and that never hold a set: of TPMs, and of the host itself. Whoever may read the
/// backups can look through them without these.
fn is_private(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name == b"__HOST_CONFIG__" || name == b"tpm-state" || name.starts_with(b".tpm-state.")
}
