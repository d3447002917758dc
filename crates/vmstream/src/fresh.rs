//! Makes files in folders where somebody else may have put something under the same name.
//!
//! A file is always a new one: what has the name is removed, never opened, so nothing is written through a symbolic link,
//! into a second name of another file, or into a pipe that nobody reads. Must not live here: what is written.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Creates an empty file for writing, with this mode less the umask, in the place of what has the name.
///
/// # Errors
/// Also when the name is a folder's, or when somebody takes the name in the same moment.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    create_with(path, mode, OFlags::empty())
}

/// The same, opened with further flags.
pub(crate) fn create_with(path: &Path, mode: u32, more: OFlags) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn nothing_is_written_through_what_has_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (other, path) = (dir.path().join("other"), dir.path().join("x.partial"));
        fs::write(&other, "somebody's").unwrap();
        let fifo = || rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        let plants: [&dyn Fn(); 5] = [
            &|| symlink(&other, &path).unwrap(),
            &|| symlink(dir.path().join("nowhere"), &path).unwrap(),
            &|| fs::hard_link(&other, &path).unwrap(),
            &fifo,
            &|| fs::write(&path, "of a dead run").unwrap(),
        ];
        for plant in plants {
            let _ = fs::remove_file(&path);
            plant();
            create(&path, 0o640).unwrap().write_all(b"ours").unwrap();
            let about = fs::symlink_metadata(&path).unwrap();
            assert!(about.is_file() && !about.file_type().is_fifo());
            assert_eq!(about.permissions().mode() & 0o7777 & !0o640, 0);
            assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
            assert_eq!(fs::read_to_string(&other).unwrap(), "somebody's");
            assert!(!dir.path().join("nowhere").exists());
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(create(&path, 0o640).is_err());
    }
}
