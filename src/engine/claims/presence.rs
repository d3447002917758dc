//! Which runs are at work on a VM, told on the host itself, where no target that hangs is in the way.
//!
//! The lock of a VM is below the backup path, and says so for people and for the Bash programs. A guard that sets a
//! guest free must not wait for that disk, so each run also holds a file under `/run`. Where that cannot be made, a
//! guard does not know of later runs; nothing else changes.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};

use vmstore::StateDir;

/// Where these files are.
const DIR: &str = "/run/vmbackup";

/// A guard that looks holds the file for a moment.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_millis(10);

/// This process works on a VM. Given back on drop, and by the kernel when the process ends.
pub(crate) struct Presence {
    _file: File,
}

/// The file of a VM and a backup path.
pub(crate) fn file(state: &StateDir, uuid: &str) -> PathBuf {
    // Two instances may work on one VM, and do not know of each other here either.
    let mut path = flate2::Crc::new();
    path.update(state.path().as_os_str().as_encoded_bytes());
    Path::new(DIR).join(format!("{uuid}-{:08x}.run", path.sum()))
}

impl Presence {
    /// Says that this process works on the VM. `None` when that cannot be said.
    pub(crate) fn tell(path: &Path) -> Option<Self> {
        let dir = path.parent()?;
        let _ = DirBuilder::new().mode(0o700).create(dir);
        // Only in a folder that is root's alone: nobody else may put a link in the way.
        let about = fs::symlink_metadata(dir).ok()?;
        if !about.is_dir() || about.uid() != 0 || about.mode() & 0o022 != 0 {
            return None;
        }
        let mut file = open(path, OFlags::CREATE)?;
        for _ in 0..TRIES {
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                file.set_len(0).ok()?;
                file.write_all(format!("{}\n", std::process::id()).as_bytes()).ok()?;
                return Some(Self { _file: file });
            }
            thread::sleep(TRY_EVERY);
        }
        None
    }
}

/// True when a process other than these works on the VM. One of these may be dying and not be able to end: a thread of it
/// waits for a disk.
pub(crate) fn is_of_another(path: &Path, than: &[u32]) -> bool {
    holder(path).is_some_and(|pid| !than.contains(&pid))
}

/// The process number of the run that holds the file.
fn holder(path: &Path) -> Option<u32> {
    let mut file = open(path, OFlags::empty())?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    text.trim().parse().ok()
}

/// Process numbers of the runs that work on a VM, whatever their backup path.
pub(crate) fn runs_of(uuid: &str) -> Vec<u32> {
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(uuid));
    files.filter_map(|entry| holder(&entry.path())).filter(|pid| *pid != std::process::id()).collect()
}

fn open(path: &Path, create: OFlags) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | create;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_seen_for_as_long_as_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmbackup/u.run");
        assert!(!is_of_another(&path, &[]), "no file yet");
        let present = Presence::tell(&path).expect("the folder can be made");
        assert!(is_of_another(&path, &[1]));
        assert!(!is_of_another(&path, &[1, std::process::id()]), "it is the one that is asked for");
        assert!(Presence::tell(&path).is_none(), "one at a time");
        drop(present);
        assert!(!is_of_another(&path, &[1]));
        assert!(Presence::tell(&path).is_some());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Presence::tell(&dir.path().join("u.run")).is_none());
    }
}
