//! Why the files of a point could not be written or published.

use crate::engine::failure::{Changed, FileError};
use vmhost::libvirt::LibvirtError;
use vmstream::new_point::PointError;

/// Why the files of a point could not be written or published.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A libvirt call failed.
    #[error("{0}")]
    Libvirt(#[from] LibvirtError),
    /// The domain is not as it was when the point was begun.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<PointError> for CommitError {
    fn from(PointError { doing, path, source }: PointError) -> Self {
        FileError { doing, path, source }.into()
    }
}
