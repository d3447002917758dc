//! What is there under a name. Only "not found" is absence: any other error says nothing, and is handed on.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What an operation found; `None` when the file system says that there is nothing.
pub fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What bears the name; a link is not followed.
pub fn lstat(path: &Path) -> io::Result<Option<Metadata>> {
    found(fs::symlink_metadata(path))
}

/// Whether something bears the name; a link is not followed.
pub fn there(path: &Path) -> io::Result<bool> {
    lstat(path).map(|about| about.is_some())
}

/// Whether two names are of one file.
pub fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The first of several names that nothing bears. `None` when all are taken.
pub fn first_free<P: AsRef<Path>>(names: impl IntoIterator<Item = P>) -> io::Result<Option<P>> {
    for name in names {
        if !there(name.as_ref())? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
