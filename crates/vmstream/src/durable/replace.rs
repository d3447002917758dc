//! A small file written whole, in the place of what had its name.
//!
//! ```text
//! NAME.partial made new ─► written ─► synced ─► renamed to NAME ─► folder synced
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::new_name::rename_over;
use super::sync::sync_folder_of;
use crate::fresh;

/// How the name of a file ends until it is whole.
pub const PARTIAL: &str = ".partial";

/// What a file is called until it is whole. `None` for a path without a name.
pub fn partial_path(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(PARTIAL);
    Some(path.with_file_name(name))
}

/// Writes a file, with this mode less the umask. Whoever looks sees what was there before or all of it, also after the host
/// failed. Two at once are not for it: they would meet at the unfinished name.
///
/// # Errors
/// What the system said. What was there before is there still; but where the folder alone could not be synced, the last
/// step, the new content is, and is perhaps not after the host failed.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    replace_with(path, mode, |file| file.write_all(content))
}

/// The same with whatever `write` does to the empty file.
pub fn replace_with<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    replace_through(&partial_path(path).ok_or(io::ErrorKind::InvalidInput)?, path, mode, write)
}

/// The same through an unfinished name of the caller's choice, in the same file system.
pub fn replace_through<T>(
    partial: &Path,
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let mut file = fresh::create(partial, mode)?;
    let written = write(&mut file).and_then(|value| put(&file, partial, path).map(|()| value));
    if written.is_err() {
        // A full file system: do not take a part of what is left.
        let _ = fs::remove_file(partial);
    }
    written
}

/// Gives a written file its name, for good: in the place of what has it.
///
/// # Errors
/// As [`replace`].
pub fn put(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    rename_over(from, to)?;
    sync_folder_of(to)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn the_new_content_is_there_or_the_old_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.json");
        replace(&path, 0o600, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let failed = replace_with(&path, 0o640, |file| {
            file.write_all(b"half of tw")?;
            Err::<(), _>(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["root.json"]);
        // What a run that died left, and what others put under either name.
        let other = dir.path().join("other");
        fs::write(&other, "theirs").unwrap();
        symlink(&other, partial_path(&path).unwrap()).unwrap();
        replace(&path, 0o640, b"two").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        let told = replace_with(&path, 0o640, |file| file.write_all(b"three").map(|()| 3)).unwrap();
        assert_eq!((told, fs::read(&path).unwrap()), (3, b"three".to_vec()));
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert_eq!(names(dir.path()), ["other", "root.json"]);
        let aside = dir.path().join("waiting");
        replace_through(&aside, &path, 0o640, |file| file.write_all(b"four")).unwrap();
        assert_eq!((fs::read(&path).unwrap(), aside.exists()), (b"four".to_vec(), false));
        assert!(replace(&dir.path().join("missing/x"), 0o640, b"").is_err());
        assert!(replace(Path::new("/"), 0o640, b"").is_err());
    }
}
