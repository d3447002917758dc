//! Why there is no set, or not what was asked of it.

use super::ident::{DiskTarget, PointId};
use crate::text;
use std::path::PathBuf;

/// Why there is no set to work with, or no such disk in it.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The folder cannot be read.
    #[error("Cannot read the folder {}", dir.display())]
    Read {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No stream, no checkpoint list.
    #[error("{} holds no backup set{}", dir.display(), hint(sets))]
    NotASet {
        /// The folder.
        dir: PathBuf,
        /// Folders inside that do hold one.
        sets: Vec<PathBuf>,
    },
    /// No such point.
    #[error("{} has no restore point {point}; it has {}", dir.display(), list(known))]
    NoPoint {
        /// The folder.
        dir: PathBuf,
        /// What was asked for.
        point: PointId,
        /// What there is.
        known: Vec<PointId>,
    },
    /// No such disk at that point.
    #[error("Disk {disk} is not part of {point}; it has {}", list(known))]
    NoDisk {
        /// What was asked for.
        disk: DiskTarget,
        /// Where.
        point: PointId,
        /// What there is.
        known: Vec<DiskTarget>,
    },
    /// The disk cannot be put together at that point.
    #[error("Disk {disk} at {point} needs its stream of {lost}, which is missing")]
    Lost {
        /// The disk.
        disk: DiskTarget,
        /// What was asked for.
        point: PointId,
        /// Where a stream is missing.
        lost: PointId,
    },
}

fn hint(sets: &[PathBuf]) -> String {
    match sets {
        [] => String::new(),
        [one] => format!("; there is one in {}", one.display()),
        many => format!("; there are {} below it, name one: {}", many.len(), list_paths(many)),
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    list(&paths.iter().map(|path| path.display()).collect::<Vec<_>>())
}

fn list<T: ToString>(items: &[T]) -> String {
    const SHOWN: usize = 12;
    if items.is_empty() { "none".to_owned() } else { text::few(items, SHOWN) }
}
