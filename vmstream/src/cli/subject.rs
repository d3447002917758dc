//! What a path on the command line is: a file, one backup set, or a tree of them.

use super::exit::Exit;
use super::{fail, tell};
use std::path::Path;
use vmstream::chain::{BackupSet, PointDisk, SetError, Tree, open_file};

/// What to work on.
pub(super) enum Subject {
    /// One stream or raw image.
    File(Box<PointDisk>),
    /// The folder itself is a backup set, and nothing below it.
    Set(Box<BackupSet>),
    /// All sets at and below a folder.
    Sets(Sets),
}

/// Sets of a tree.
pub(super) struct Sets {
    pub(super) sets: Vec<BackupSet>,
    /// Folders of which nothing can be said, with the reason.
    pub(super) unreadable: Vec<String>,
}

/// Opens what is there, or says why that cannot be done.
pub(super) fn open(path: &Path) -> Result<Subject, Exit> {
    if std::fs::metadata(path).is_ok_and(|about| !about.is_dir()) {
        return match open_file(path) {
            Ok(file) => Ok(Subject::File(Box::new(file))),
            Err(error) => {
                tell(&format!("error: Cannot read {}: {error}\n", path.display()));
                Err(Exit::CannotTell)
            }
        };
    }
    let tree = Tree::of(path);
    // A folder that is a set is asked about for itself: an archive beside its chain says nothing about it.
    let is_set = tree.sets.first().is_some_and(|first| first == path);
    if is_set || (tree.unreadable.is_empty() && tree.sets.is_empty()) {
        return match BackupSet::open(path) {
            Ok(set) => Ok(Subject::Set(Box::new(set))),
            Err(error) => Err(fail(&error, Exit::CannotTell)),
        };
    }
    let unreadable = tree.unreadable.into_iter();
    let mut unreadable: Vec<_> = unreadable
        .map(|(dir, source)| (dir.clone(), SetError::Read { dir, source }))
        .map(|(_, error)| with_cause(&error))
        .collect();
    if tree.sets.is_empty() {
        for text in &unreadable {
            tell(&format!("error: {text}\n"));
        }
        return Err(Exit::CannotTell);
    }
    let mut sets = Vec::with_capacity(tree.sets.len());
    for dir in tree.sets {
        match BackupSet::open(&dir) {
            Ok(set) => sets.push(set),
            Err(error) => unreadable.push(with_cause(&error)),
        }
    }
    Ok(Subject::Sets(Sets { sets, unreadable }))
}

fn with_cause(error: &SetError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
