//! Writes to, and removes from, directories on storage that may be dead: done by a process of its own, which can be given up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vmstream::presence::found;

use super::request::Question;
use super::{ProgramError, Stopped, itself};

/// What is written for a try: a block of most file systems.
const TRY_BYTES: [u8; 4096] = [0; 4096];

/// Sees whether a file can be made, written and removed: makes it, and removes it again. `Ok(Err(_))`: the system says why
/// it cannot be.
pub fn try_writing(
    file: &Path,
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Result<(), String>, ProgramError> {
    let told = itself::ask(Question::Try, &[file.to_owned()], limit, stopped)?;
    Ok(told.into_iter().collect())
}

/// Removes files. Of each, whether it was there, or why it still is.
pub fn remove(
    files: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<Result<bool, String>>, ProgramError> {
    itself::ask(Question::Remove, files, limit, stopped)
}

pub(super) fn tried(path: &Path) -> io::Result<()> {
    // Made anew: everybody may write to some of these directories.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(&TRY_BYTES).and_then(|()| file.sync_all());
    written.and(fs::remove_file(path))
}

pub(super) fn removed(path: &Path) -> io::Result<bool> {
    found(fs::remove_file(path)).map(|removed| removed.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_leaves_nothing_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.1.try-write");
        tried(&file).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(&file, "of somebody").unwrap();
        assert_eq!(tried(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"of somebody");
        assert_eq!(tried(&dir.path().join("none/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_removed_tells_whether_it_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(removed(&file).unwrap());
        assert!(!removed(&file).unwrap());
        assert!(removed(dir.path()).is_err());
    }
}
