//! What the paths on the command line are: files, backup sets, or trees of them.
//!
//! Sets are opened one after the other: what many of them need is what the largest needs.

use super::exit::Exit;
use super::failure::Failure;
use super::output::tell;
use std::path::{Path, PathBuf};
use vmstream::causes::with_causes;
use vmstream::chain::folders::ARCHIVES;
use vmstream::chain::{BackupSet, PointDisk, SetError, SetFile, Tree, open_file};
use vmstream::stream::{Problem, StreamError};
use vmstream::text;

/// How far a look goes below the paths.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// Leave out archived chains: what is below a folder .archives
    #[arg(long)]
    no_archives: bool,
}

/// What to work on.
#[derive(Default)]
pub(super) struct Subjects {
    /// Folders of sets, in the order in which they are looked at.
    pub(super) dirs: Vec<PathBuf>,
    /// Streams and raw images that were named themselves.
    pub(super) files: Vec<PointDisk>,
    /// That of which nothing can be said, with the reason.
    pub(super) unreadable: Vec<String>,
    /// One path, and it is one set with nothing below it, or a file.
    pub(super) alone: bool,
    /// The first set, where it had to be opened to know that it is one.
    first: Option<BackupSet>,
}

impl Subjects {
    /// Finds what is there. Where some paths are of no use the others are worked on; where none is, that is an error.
    pub(super) fn open(paths: &[PathBuf], reach: &Reach) -> Result<Self, Failure> {
        if let [path] = paths {
            return Self::of(path, reach);
        }
        let (mut all, mut failed) = (Self::default(), None);
        for path in paths {
            match Self::of(path, reach) {
                Ok(found) => {
                    all.dirs.extend(found.dirs);
                    all.files.extend(found.files);
                    all.unreadable.extend(found.unreadable);
                }
                Err(failure) => {
                    all.unreadable.push(failure.line());
                    failed.get_or_insert(failure);
                }
            }
        }
        match failed {
            Some(failure) if all.dirs.is_empty() && all.files.is_empty() => Err(failure),
            _ => Ok(all),
        }
    }

    fn of(path: &Path, reach: &Reach) -> Result<Self, Failure> {
        if std::fs::metadata(path).is_ok_and(|about| !about.is_dir()) {
            return match open_file(path) {
                Ok(file) => match why_not(path, &file) {
                    None => Ok(Self { files: vec![file], alone: true, ..Self::default() }),
                    Some(why) => Err(Failure::refused(why)),
                },
                Err(error) => Err(Failure::refused(format!("Cannot read {}: {error}", path.display()))),
            };
        }
        let mut tree = Tree::of(path);
        if reach.no_archives {
            leave_out_archives(&mut tree, path);
        }
        for (folder, why) in &tree.passed_over {
            tell(&format!("note: {} is not looked at: {why}\n", folder.display()));
        }
        let root_is_set = tree.sets.first().is_some_and(|first| first == path);
        if tree.unreadable.is_empty() && tree.sets.len() <= usize::from(root_is_set) {
            let set = BackupSet::open(path).map_err(|error| Failure::of(&error, Exit::CannotTell))?;
            let dirs = vec![path.to_owned()];
            return Ok(Self { dirs, first: Some(set), alone: true, ..Self::default() });
        }
        let read = |(dir, source)| with_causes(&SetError::Read { dir, source });
        let unreadable: Vec<_> = tree.unreadable.into_iter().map(read).collect();
        if tree.sets.is_empty() {
            return Err(Failure::refused(unreadable.join("\nerror: ")));
        }
        Ok(Self { dirs: tree.sets, unreadable, ..Self::default() })
    }

    /// Opens each set when its turn comes, and lets go of it before the next one's.
    pub(super) fn each_set(&mut self, mut look: impl FnMut(&BackupSet)) {
        for dir in &self.dirs {
            let opened = self.first.take().map_or_else(|| BackupSet::open(dir), Ok);
            match opened {
                Ok(set) => look(&set),
                Err(error) => self.unreadable.push(with_causes(&error)),
            }
        }
    }
}

/// Takes out of a tree what is archived below its root, and says how much that is.
fn leave_out_archives(tree: &mut Tree, root: &Path) {
    let is_kept = |path: &Path| {
        let below = path.strip_prefix(root).unwrap_or(path);
        below.components().all(|part| part.as_os_str() != ARCHIVES)
    };
    let all = tree.sets.len() + tree.unreadable.len();
    tree.sets.retain(|set| is_kept(set));
    tree.unreadable.retain(|(folder, _)| is_kept(folder));
    tree.passed_over.retain(|(folder, _)| is_kept(folder));
    let left_out = all - tree.sets.len() - tree.unreadable.len();
    if left_out > 0 {
        let chains = text::count(left_out, "archived chain");
        tell(&format!("note: not looked at, by --no-archives: {chains} below {}\n", root.display()));
    }
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
