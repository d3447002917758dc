//! Why a point could not be written.

use std::io;
use std::path::{Path, PathBuf};

/// A file or folder of a point could not be written.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {doing} {}", path.display())]
pub struct PointError {
    /// What was tried.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl PointError {
    /// For `map_err`.
    pub(super) fn when(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { doing, path: path.to_owned(), source }
    }
}
