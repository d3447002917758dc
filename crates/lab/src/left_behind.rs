//! What must not be left of a run that was killed: unfinished files, a lock, sockets, a guest that stands still.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::{Lab, Vm};

/// How soon a guest is free whose backup died. On a quiet host it takes less than two seconds; tests run beside each other on
/// busy ones.
pub const FREE_LIMIT: Duration = Duration::from_secs(20);

/// No unfinished file, journal, scratch file or socket is left.
#[track_caller]
pub fn assert_tidy(lab: &Lab, chain_dir: &Path, when: impl fmt::Display) {
    let journals = lab.backup_path().join("_state/journal");
    let mut left: Vec<PathBuf> = Vec::new();
    for (dir, is_left) in [
        (chain_dir, (|name| name.ends_with(".partial")) as fn(&str) -> bool),
        (&chain_dir.join("checkpoints"), |name| !name.ends_with(".xml")),
        (&journals, |_| true),
        (&lab.backup_path().join("_state/locks"), |_| true),
        (&lab.backup_path().join("_state"), |name| name == "vmbackup.pid"),
        (&lab.scratch_dir(), |_| true),
        (&lab.backup_path(), |name| name.starts_with(".vmbackup-test")),
    ] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.file_name().to_str().is_none_or(is_left));
        left.extend(names.map(|entry| entry.path()));
    }
    assert!(left.is_empty(), "left {when}: {left:?}");
}

/// Waits until the guard of a run that died has not the lock of the VM: it writes the journal under it.
pub fn wait_for_guard(lab: &Lab, vm: &Vm) {
    wait_for_guard_below(&lab.backup_path(), vm);
}

/// The same with another backup path.
pub fn wait_for_guard_below(backup_path: &Path, vm: &Vm) {
    let lock = backup_path.join(format!("_state/locks/vmbackup-{}.lock", vm.name()));
    let Ok(lock) = fs::File::open(lock) else { return };
    let began = Instant::now();
    while rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the guard of {} does not end", vm.name());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sockets of a process, in the place where the programs put them.
pub fn sockets_of(pid: Pid) -> Vec<PathBuf> {
    let begins = format!("virtnbdbackup.{}-", pid.as_raw_nonzero());
    let entries = fs::read_dir("/var/tmp").into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begins));
    ours.map(|entry| entry.path()).collect()
}
