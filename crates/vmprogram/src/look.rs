//! Looks at files that may be on dead storage: done by a process of its own, which can be given up.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, OFlags, access};
use serde::{Deserialize, Serialize};

use super::request::Question;
use super::{ProgramError, Stopped, itself};

/// Bytes from the start of a file that a look holds: a qcow2 header with its extensions (QEMU `docs/interop/qcow2.rst`).
const HEAD_BYTES: u64 = 4096;

/// What a file looks like from outside, and how it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Not a link, a device or anything else.
    pub is_regular: bool,
    /// A block device, of which the rest tells little.
    pub is_block_device: bool,
    /// In bytes.
    pub size: u64,
    /// Its number in its file system.
    pub inode: u64,
    /// When it was last written, in seconds since 1970.
    pub modified_seconds: i64,
    /// And nanoseconds.
    pub modified_nanos: i64,
    /// When anything of it was last changed, in seconds since 1970. Nobody can set that.
    pub changed_seconds: i64,
    /// And nanoseconds.
    pub changed_nanos: i64,
    /// Its first 4096 bytes.
    pub head: Vec<u8>,
}

impl Look {
    /// Looks at a file, here and now.
    pub fn at(path: &Path) -> io::Result<Self> {
        // Opened before it is looked at: a network file system asks its server only then (nfs(5), close-to-open). Not
        // held up by a pipe in its place.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let mut head = Vec::new();
        (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
        let about: Metadata = file.metadata()?;
        let is_regular = fs::symlink_metadata(path)?.is_file();
        Ok(Self {
            is_regular,
            is_block_device: about.file_type().is_block_device(),
            size: about.size(),
            inode: about.ino(),
            modified_seconds: about.mtime(),
            modified_nanos: about.mtime_nsec(),
            changed_seconds: about.ctime(),
            changed_nanos: about.ctime_nsec(),
            head,
        })
    }
}

/// Looks at files in a process of its own. Each has its look, or why it has none.
pub fn look(
    paths: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<Result<Look, String>>, ProgramError> {
    itself::ask(Question::Look, paths, limit, stopped)
}

/// Where a directory really is, without `..` and links. `Ok(Err(_))`: the system says why files cannot be made there.
/// Nothing is written.
pub fn writable_directory(
    path: &Path,
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Result<PathBuf, String>, ProgramError> {
    let mut told = itself::ask(Question::Directory, &[path.to_owned()], limit, stopped)?;
    Ok(told.pop().unwrap_or_else(|| Ok(path.to_owned())))
}

pub(super) fn directory_at(path: &Path) -> io::Result<PathBuf> {
    let real = fs::canonicalize(path)?;
    if !fs::metadata(&real)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    access(&real, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_where_its_links_lead_and_a_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(directory_at(&dir.path().join("link/../real")).unwrap(), real);
        assert_eq!(directory_at(&dir.path().join("link")).unwrap(), real);
        fs::write(real.join("file"), "").unwrap();
        assert_eq!(directory_at(&real.join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(directory_at(&real.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(&real).unwrap().count(), 1, "nothing is written");
    }
}
