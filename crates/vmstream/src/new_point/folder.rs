//! A folder in which points are made, and the moment at which they are there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::PointError;
use super::private::make_folders;
use super::sealed::SealedPoint;
use super::writer::PointWriter;
use crate::durable::{self, PARTIAL, Together};

/// A folder in which points are made.
#[derive(Debug)]
pub struct PointFolder {
    dir: PathBuf,
    way: Way,
    together: Together,
}

/// Where files wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Beside points that are there. Files of a folder inside wait outside of it: it may belong to a chain that is archived
    /// first.
    Beside,
    /// In a folder that nobody reads yet, each in its own folder.
    Hidden,
}

/// How far names are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Small files and sidecars.
    SmallFiles,
    /// The first of the streams and images.
    FirstStream,
    /// All of them, and the folders are on disk. The list follows.
    Streams,
}

/// The name of a file that waits beside points that are there.
pub fn unfinished_name(name: &str) -> String {
    format!("{}{PARTIAL}", name.replace('/', "."))
}

impl PointFolder {
    /// A folder that may have points. To be opened before a file of the new ones is written.
    pub fn beside(dir: &Path) -> Result<Self, PointError> {
        Self::open(dir, Way::Beside)
    }

    /// A folder that nobody reads yet.
    pub fn hidden(dir: &Path) -> Result<Self, PointError> {
        Self::open(dir, Way::Hidden)
    }

    fn open(dir: &Path, way: Way) -> Result<Self, PointError> {
        let together = Together::below(dir).map_err(PointError::when("open", dir))?;
        Ok(Self { dir: dir.to_owned(), way, together })
    }

    /// Begins a point. Its files get this modification time where nothing else is said.
    pub fn begin(&self, time: SystemTime) -> PointWriter<'_> {
        PointWriter::new(self, time)
    }

    /// Where a file waits.
    pub fn unfinished_path(&self, name: &str) -> PathBuf {
        self.dir.join(match self.way {
            Way::Beside => unfinished_name(name),
            Way::Hidden => format!("{name}{PARTIAL}"),
        })
    }

    /// Makes durable the files of all sealed points, under the names under which they wait.
    pub fn sync(&self) -> Result<(), PointError> {
        self.together.sync().map_err(PointError::when("sync the files of", &self.dir))
    }

    /// Gives points that were synced their names, all at once as far as the lists tell. `at` is told how far it is.
    ///
    /// # Errors
    /// Streams and sidecars replace nothing. Before the list has its new content no point is there.
    pub fn commit(&self, points: &[SealedPoint], at: &dyn Fn(Named)) -> Result<(), PointError> {
        for point in points {
            for (name, access) in &point.small {
                let made = make_folders(&self.dir, name, *access);
                made.map_err(PointError::when("create the folder of", &self.dir.join(name)))?;
                self.rename(name, durable::rename_over)?;
            }
        }
        let sidecars = points.iter().flat_map(|point| &point.sidecars);
        sidecars.into_iter().try_for_each(|name| self.rename(name, durable::rename_new))?;
        at(Named::SmallFiles);
        let mut streams = points.iter().flat_map(|point| &point.streams);
        streams.by_ref().take(1).try_for_each(|name| self.rename(name, durable::rename_new))?;
        at(Named::FirstStream);
        streams.try_for_each(|name| self.rename(name, durable::rename_new))?;
        self.sync_folders(points)?;
        at(Named::Streams);
        for (name, _) in points.iter().filter_map(|point| point.list.as_ref()) {
            self.rename(name, durable::rename_over)?;
            durable::sync_folder(&self.dir).map_err(PointError::when("sync folder", &self.dir))?;
        }
        Ok(())
    }

    fn rename(&self, name: &str, way: fn(&Path, &Path) -> io::Result<()>) -> Result<(), PointError> {
        let path = self.dir.join(name);
        way(&self.unfinished_path(name), &path).map_err(PointError::when("publish", &path))
    }

    /// Makes durable the folders that have a file of the points.
    fn sync_folders(&self, points: &[SealedPoint]) -> Result<(), PointError> {
        let mut folders = BTreeSet::from([self.dir.as_path()]);
        let paths: Vec<PathBuf> =
            points.iter().flat_map(SealedPoint::files).map(|name| self.dir.join(name)).collect();
        for path in &paths {
            folders.extend(path.ancestors().skip(1).take_while(|folder| *folder != self.dir));
        }
        let synced = self.together.sync_folders(folders);
        synced.map_err(PointError::when("sync the folders of", &self.dir))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    pub(super) fn together(&self) -> &Together {
        &self.together
    }
}
