//! How much room a file system has, and how much of it a file takes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::Question;
use super::{ProgramError, Stopped, itself};

/// The unit of `st_blocks`, whatever the file system's own blocks are: stat(2).
const BLOCK_BYTES: u64 = 512;

/// Free and total bytes of a file system, for what a user without privileges may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Space {
    /// Asks the file system that holds `path`, here and now.
    pub fn at(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free_bytes: bytes(stat.f_bavail), total_bytes: bytes(stat.f_blocks) })
    }
}

/// The room around a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Of its file system.
    pub space: Space,
    /// What the file itself takes there.
    pub allocated_bytes: u64,
}

impl Room {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let allocated_bytes = fs::metadata(path)?.blocks() * BLOCK_BYTES;
        Ok(Self { space: Space::at(path)?, allocated_bytes })
    }
}

/// Asks that of files and directories in a process of its own, in their order. Each has its room, or why it has none.
pub fn rooms(
    paths: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<Result<Room, String>>, ProgramError> {
    itself::ask(Question::Room, paths, limit, stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_what_is_written_and_not_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, vec![7; 1 << 20]).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_len(1 << 30).unwrap();
        let room = Room::at(&file).unwrap();
        assert!((1 << 20..2 << 20).contains(&room.allocated_bytes), "{room:?}");
        assert!((1..=room.space.total_bytes).contains(&room.space.free_bytes), "{room:?}");
        assert_eq!(Room::at(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
