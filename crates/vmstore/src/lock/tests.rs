//! Locks against live processes of the names that count, and of others.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use super::holder::holder;
use super::pid_file::PidFile;
use super::vm::VM_PROGRAMS;
use super::{LockError, SessionLock, VmLock};
use crate::StateDir;

/// A process that lives for a while under a name of its choice.
struct Named(Child);

impl Named {
    fn new(name: &str) -> Self {
        let script = format!("exec -a {name} sleep 60");
        let child = Command::new("bash").args(["-c", &script]).spawn().unwrap();
        let named = Self(child);
        // Looked at once for both: in the middle of an exec the line is empty.
        let is_named = || {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", named.0.id())).unwrap_or_default();
            line.contains(name) && !line.contains("bash")
        };
        while !is_named() {
            std::thread::sleep(Duration::from_millis(1));
        }
        named
    }

    fn write_to(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n", self.0.id())).unwrap();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::of(dir.path());
    state.create("locks").unwrap();
    (dir, state)
}

fn take(state: &StateDir) -> Result<VmLock, LockError> {
    VmLock::take(state, "web 1", Duration::ZERO)
}

#[test]
fn the_file_names_us_while_we_have_it_and_is_gone_after() {
    let (_dir, state) = state();
    let own = format!("{}\n", std::process::id());
    let lock = SessionLock::take(&state).unwrap();
    assert_eq!(fs::read_to_string(state.path().join("vmbackup.pid")).unwrap(), own);
    lock.confirm().unwrap();
    drop(lock);
    assert!(!state.session_lock().exists());
    let lock = take(&state).unwrap();
    assert_eq!(fs::read_to_string(state.path().join("locks/vmbackup-web 1.lock")).unwrap(), own);
    drop(lock);
    assert!(!state.vm_lock("web 1").exists());
}

#[test]
fn one_holder_at_a_time() {
    let (_dir, state) = state();
    let first = take(&state).unwrap();
    assert!(matches!(take(&state), Err(LockError::Vm { pid, .. }) if pid == std::process::id()));
    VmLock::take(&state, "db", Duration::ZERO).unwrap();
    drop(first);
    take(&state).unwrap();
}

#[test]
fn many_at_once_never_hold_it_together() {
    let (_dir, state) = state();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let Ok(file) = PidFile::take(&state.vm_lock("x"), VM_PROGRAMS, Duration::ZERO).unwrap()
                    else {
                        continue;
                    };
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(file);
                }
            });
        }
    });
}

#[test]
fn a_live_process_of_a_fitting_name_is_honoured_and_any_other_is_not() {
    // Whether a session, and whether a VM, is held by a process of this name.
    let cases = [
        ("vmbackup.sh", true, true),
        ("vmrestore", false, true),
        ("virtnbdbackup", false, true),
        ("reused-by-another", false, false),
    ];
    for (name, holds_session, holds_vm) in cases {
        let (_dir, state) = state();
        let process = Named::new(name);
        process.write_to(&state.session_lock());
        process.write_to(&state.vm_lock("web 1"));
        assert_eq!(SessionLock::look(&state).is_err(), holds_session, "{name}");
        assert_eq!(SessionLock::take(&state).is_err(), holds_session, "{name}");
        assert_eq!(take(&state).is_err(), holds_vm, "{name}");
    }
}

#[test]
fn a_process_that_began_after_the_file_was_written_has_only_its_number() {
    let (_dir, state) = state();
    let process = Named::new("vmbackup.log");
    for path in [state.session_lock(), state.vm_lock("web 1")] {
        process.write_to(&path);
        let written = |ago: u64| {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
        };
        written(30);
        assert!(holder(&File::open(&path).unwrap(), VM_PROGRAMS).is_some(), "clocks differ a little");
        written(600);
        assert_eq!(holder(&File::open(&path).unwrap(), VM_PROGRAMS), None);
    }
    SessionLock::look(&state).unwrap();
    SessionLock::take(&state).unwrap();
    take(&state).unwrap();
}

#[test]
fn what_a_dead_process_or_nobody_left_is_worth_nothing() {
    let dead = { Named::new("vmbackup").0.id().to_string() };
    for content in [dead.as_str(), "", "none\n", "0\n", "99999999999999999999999999999999999999\n"] {
        let (_dir, state) = state();
        fs::write(state.session_lock(), content).unwrap();
        SessionLock::look(&state).unwrap();
        SessionLock::take(&state).unwrap();
    }
}

#[test]
fn steps_back_when_another_program_wrote_at_the_same_moment() {
    for replaced in [false, true] {
        let (_dir, state) = state();
        let lock = SessionLock::take(&state).unwrap();
        let process = Named::new("vmbackup.sh");
        if replaced {
            fs::remove_file(state.session_lock()).unwrap();
        }
        process.write_to(&state.session_lock());
        let pid = process.0.id();
        assert!(matches!(lock.confirm(), Err(LockError::Session { pid: found }) if found == pid));
        drop(lock);
        assert!(state.session_lock().exists(), "the other one's file stays");
    }
}

#[test]
fn a_link_in_its_place_is_not_followed() {
    let (dir, state) = state();
    let target = dir.path().join("precious");
    fs::write(&target, "keep").unwrap();
    std::os::unix::fs::symlink(&target, state.session_lock()).unwrap();
    assert!(matches!(SessionLock::take(&state), Err(LockError::File { .. })));
    assert_eq!(fs::read_to_string(&target).unwrap(), "keep");
}
