//! A new name for a file, which nothing bears yet. Whatever the file system can do, no other file is replaced.
//!
//! ```text
//! rename that must not replace ── knows no such flag (NFS, 9p) ──► second name, then the first goes
//!                                                                    └─ knows no second names (FAT, some SMB and FUSE) ──►
//!                                                                       look that nothing is there, then rename
//! ```
//! The last way rests on whoever calls: nobody else of ours writes there, by the lock of the VM or of the unfinished file.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::presence::{lstat, same_file, there};

/// Gives a file or folder another name in the same file system.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when another file has the name. Asked again after it was done (a network file system
/// repeats requests whose answer got lost), it is `Ok`.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    also_repeated(from, to, by_flag)
}

/// Gives a file a name that another file may have, which goes then. Asked again after it was done, it is `Ok`.
pub fn rename_over(from: &Path, to: &Path) -> io::Result<()> {
    also_repeated(from, to, |from, to| fs::rename(from, to))
}

/// A network file system that repeats a request finds nothing under the first name any more: it has the other one.
fn also_repeated(from: &Path, to: &Path, way: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let ours = lstat(from)?;
    match (way(from, to), ours) {
        (Err(e), Some(ours)) if e.kind() == ErrorKind::NotFound => match lstat(to)? {
            Some(there) if same_file(&ours, &there) && !self::there(from)? => Ok(()),
            _ => Err(e),
        },
        (done, _) => done,
    }
}

fn by_flag(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => end_repeated(from, to),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => by_link(from, to),
        Err(error) => Err(error.into()),
    }
}

fn by_link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => end_repeated(from, to),
        Err(e) if knows_no_links(&e) => by_look(from, to),
        Err(e) => Err(e),
    }
}

fn by_look(from: &Path, to: &Path) -> io::Result<()> {
    if there(to)? {
        return Err(taken(to));
    }
    fs::rename(from, to)
}

/// The name is taken: by the file itself, or by another.
fn end_repeated(from: &Path, to: &Path) -> io::Result<()> {
    match (lstat(from)?, lstat(to)?) {
        (Some(ours), Some(there)) if same_file(&ours, &there) => fs::remove_file(from),
        _ => Err(taken(to)),
    }
}

/// Another file has the name.
pub fn taken(path: &Path) -> io::Error {
    let text = format!("another file is there already and is not replaced: {}", path.display());
    io::Error::new(ErrorKind::AlreadyExists, text)
}

/// What link(2) answers where there are no hard links: FAT, some network file systems.
pub fn knows_no_links(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Way = fn(&Path, &Path) -> io::Result<()>;
    const WAYS: [(&str, Way); 3] = [("flag", by_flag), ("link", by_link), ("look", by_look)];

    #[test]
    fn no_way_replaces_a_file() {
        for (name, way) in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("new.partial"), dir.path().join("stream"));
            fs::write(&from, "new").unwrap();
            way(&from, &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), "new", "{name}");
            assert!(!from.exists(), "{name}");
            fs::write(&from, "newer").unwrap();
            assert_eq!(way(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists, "{name}");
            assert_eq!(fs::read_to_string(&to).unwrap(), "new", "{name}");
            assert_eq!(fs::read_to_string(&from).unwrap(), "newer", "{name}");
            std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
            assert!(
                way(&from, &dir.path().join("link")).is_err(),
                "{name}: a link that leads nowhere is a name"
            );
        }
    }

    #[test]
    fn a_request_that_was_done_before_is_done() {
        for (name, way) in &WAYS[..2] {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("new.partial"), dir.path().join("stream"));
            fs::write(&from, "new").unwrap();
            fs::hard_link(&from, &to).unwrap();
            way(&from, &to).unwrap();
            assert!(!from.exists() && to.exists(), "{name}");
        }
    }

    #[test]
    fn an_answer_that_got_lost_is_no_failure() {
        let replacing: Way = |from, to| fs::rename(from, to);
        for (name, way) in WAYS.into_iter().chain([("replace", replacing)]) {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("new.partial"), dir.path().join("stream"));
            let lost = || io::Error::from(ErrorKind::NotFound);
            // The server has done it, and answers the same request again.
            let twice = |from: &Path, to: &Path| way(from, to).and(Err(lost()));
            fs::write(&from, "new").unwrap();
            also_repeated(&from, &to, twice).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), "new", "{name}");
            assert!(also_repeated(&from, &to, way).is_err(), "{name}: there was nothing to rename");
            fs::write(&from, "newer").unwrap();
            assert!(also_repeated(&from, &to, |_, _| Err(lost())).is_err(), "{name}: another has the name");
        }
    }
}
