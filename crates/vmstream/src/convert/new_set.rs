//! A folder that appears at once: complete and durable, or not at all.
//!
//! ```text
//! NEW.partial/NAME.partial ─ all written, timed, synced ─► NEW.partial/NAME ─ all renamed, folders synced ─► NEW
//! ```
//! So wherever this stops, no reader takes what is left for a backup.

use super::contents::NewLink;
use super::error::ConvertError;
use crate::durable;
use crate::new_point::{PointFolder, PointWriter, SealedPoint};
use crate::unfinished::Unfinished;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder in the making. Dropped before it is published, it is removed.
pub(super) struct NewSet {
    target: PathBuf,
    /// Closed to others until it is published.
    dir: PathBuf,
    /// What the finished folder gets.
    permissions: Permissions,
    folder: PointFolder,
    unfinished: Unfinished,
}

impl NewSet {
    /// Begins a folder that gets the permissions of another.
    pub(super) fn create(target: &Path, like: &Path) -> Result<Self, ConvertError> {
        let failed = |source| ConvertError::Write { path: target.to_owned(), source };
        let dir = durable::partial_path(target).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        if fs::symlink_metadata(target).is_ok() {
            return Err(ConvertError::Exists { path: target.to_owned() });
        }
        let permissions = fs::metadata(like).map_err(failed)?.permissions();
        let made = Unfinished::folder(&dir, || DirBuilder::new().mode(0o700).create(&dir));
        let unfinished = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ConvertError::Unfinished { path: dir.clone() },
            _ => failed(error),
        })?;
        let folder = PointFolder::hidden(&dir)?;
        Ok(Self { target: target.to_owned(), dir, permissions, folder, unfinished })
    }

    /// Begins a point, or what belongs to none.
    pub(super) fn begin(&self, time: SystemTime) -> PointWriter<'_> {
        self.folder.begin(time)
    }

    /// Makes a link.
    pub(super) fn link(&self, NewLink { name, target }: &NewLink) -> Result<(), ConvertError> {
        let path = self.dir.join(name);
        symlink(target, &path).map_err(|source| write_failed(&path, source))
    }

    /// Gives every file its name, and then the folder. After [`ConvertError::NotDurable`] the folder is there.
    pub(super) fn publish(self, points: &[SealedPoint]) -> Result<(), ConvertError> {
        self.folder.sync()?;
        fs::set_permissions(&self.dir, self.permissions.clone())
            .map_err(|source| write_failed(&self.dir, source))?;
        self.folder.commit(points, &|_| {})?;
        self.unfinished.finish(|| durable::rename_new(&self.dir, &self.target)).map_err(
            |source| match source.kind() {
                io::ErrorKind::AlreadyExists => ConvertError::Exists { path: self.target.clone() },
                _ => write_failed(&self.target, source),
            },
        )?;
        durable::sync_folder_of(&self.target)
            .map_err(|source| ConvertError::NotDurable { path: self.target.clone(), source })
    }
}

fn write_failed(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::Write { path: path.to_owned(), source }
}
