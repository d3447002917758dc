//! Writes to, and removes from, directories on storage that may be dead: done by a process of its own, which can be given up.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Program, ProgramError, Stopped};

/// The first argument that makes this program touch the files that follow the next one.
pub const TOUCH_ARGUMENT: &str = "--internal-touch";

const TRY: &str = "try";
const REMOVE: &str = "remove";

/// What is written for a try: a block of most file systems.
const TRY_BYTES: [u8; 4096] = [0; 4096];

/// Sees whether a file can be made, written and removed: makes it, and removes it again. `Ok(Err(_))`: the system says why
/// it cannot be.
pub fn try_writing(
    file: &Path,
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Result<(), String>, ProgramError> {
    asked(TRY, &[file.to_owned()], limit, stopped)
}

/// Removes files. Of each, whether it was there, or why it still is.
pub fn remove(
    files: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<Result<bool, String>>, ProgramError> {
    if files.is_empty() { Ok(vec![]) } else { asked(REMOVE, files, limit, stopped) }
}

fn asked<T: DeserializeOwned>(
    what: &str,
    files: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<T, ProgramError> {
    let done = Program::itself(TOUCH_ARGUMENT).arg(what).args(files).run(limit, stopped)?;
    let failed = |_| ProgramError::Start { source: io::Error::other(done.message()) };
    serde_json::from_slice(&done.stdout).map_err(failed)
}

/// What such a process does with the words that follow its first argument.
pub fn answer_touch(mut words: impl Iterator<Item = OsString>) {
    let what = words.next().unwrap_or_default();
    let mut files = words.map(PathBuf::from);
    if what == REMOVE {
        let removed: Vec<_> = files.map(|file| removed(&file)).collect();
        answer(&removed);
    } else if let Some(file) = files.next().filter(|_| what == TRY) {
        answer(&tried(&file).map_err(|error| error.to_string()));
    }
}

fn answer(said: &impl Serialize) {
    let _ = serde_json::to_vec(said).map(|text| io::stdout().lock().write_all(&text));
}

fn tried(path: &Path) -> io::Result<()> {
    // Made anew: everybody may write to some of these directories.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(&TRY_BYTES).and_then(|()| file.sync_all());
    written.and(fs::remove_file(path))
}

fn removed(path: &Path) -> Result<bool, String> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.to_string()),
    }
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
        assert_eq!(removed(&file), Ok(true));
        assert_eq!(removed(&file), Ok(false));
        assert!(removed(dir.path()).is_err());
    }
}
