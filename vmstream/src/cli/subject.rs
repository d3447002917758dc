//! What a path on the command line is: a file, one backup set, or a tree of them.

use super::exit::Exit;
use super::failure::Failure;
use super::output::tell;
use std::path::Path;
use vmstream::chain::{BackupSet, PointDisk, SetError, SetFile, Tree, open_file};
use vmstream::stream::{Problem, StreamError};

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
    /// The first is of the folder itself, the others lie below it.
    pub(super) root_is_set: bool,
    pub(super) sets: Vec<BackupSet>,
    /// Folders of which nothing can be said, with the reason.
    pub(super) unreadable: Vec<String>,
}

/// Opens what is there, or says why that cannot be done.
pub(super) fn open(path: &Path) -> Result<Subject, Failure> {
    if std::fs::metadata(path).is_ok_and(|about| !about.is_dir()) {
        return match open_file(path) {
            Ok(file) => match why_not(path, &file) {
                None => Ok(Subject::File(Box::new(file))),
                Some(why) => Err(Failure::refused(why)),
            },
            Err(error) => Err(Failure::refused(format!("Cannot read {}: {error}", path.display()))),
        };
    }
    let tree = Tree::of(path);
    for (folder, why) in &tree.passed_over {
        tell(&format!("note: {} is not looked at: {why}\n", folder.display()));
    }
    // A folder that is a set is asked about for itself: an archive beside its chain says nothing about it.
    let root_is_set = tree.sets.first().is_some_and(|first| first == path);
    let archive = path.join(".archives");
    let (archived, own): (Vec<_>, Vec<_>) = tree.sets.iter().partition(|set| set.starts_with(&archive));
    if tree.unreadable.is_empty()
        && own.len() <= usize::from(root_is_set)
        && (root_is_set || archived.is_empty())
    {
        if !archived.is_empty() {
            let archive = archive.display();
            tell(&format!(
                "note: not looked at: {} archived chains in {archive}; name that folder for them\n",
                archived.len()
            ));
        }
        return match BackupSet::open(path) {
            Ok(set) => Ok(Subject::Set(Box::new(set))),
            Err(error) => Err(Failure::of(&error, Exit::CannotTell)),
        };
    }
    let unreadable = tree.unreadable.into_iter();
    let mut unreadable: Vec<_> = unreadable
        .map(|(dir, source)| (dir.clone(), SetError::Read { dir, source }))
        .map(|(_, error)| with_cause(&error))
        .collect();
    if tree.sets.is_empty() {
        return Err(Failure::refused(unreadable.join("\nerror: ")));
    }
    let mut sets = Vec::with_capacity(tree.sets.len());
    for dir in tree.sets {
        match BackupSet::open(&dir) {
            Ok(set) => sets.push(set),
            Err(error) => unreadable.push(with_cause(&error)),
        }
    }
    Ok(Subject::Sets(Sets { root_is_set, sets, unreadable }))
}

/// Why a file is nothing to work on: what is called like a stream is one, damaged or not.
fn why_not(path: &Path, file: &PointDisk) -> Option<String> {
    let PointDisk::Stream(entry) = file else { return None };
    let name = path.file_name().and_then(|name| name.to_str()).and_then(SetFile::parse);
    match entry.meta.as_ref().err()? {
        StreamError::Read { source, .. } => Some(format!("Cannot read {}: {source}", path.display())),
        StreamError::Damaged(damage)
            if matches!(damage.problem, Problem::NotAStream { .. })
                && !matches!(name, Some(SetFile::Stream { .. })) =>
        {
            Some(format!("{} is not a stream: name a stream, or the folder of a backup set", path.display()))
        }
        StreamError::Damaged(_) => None,
    }
}

fn with_cause(error: &SetError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
