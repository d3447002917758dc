//! Who works here: PID files as the Bash programs read and write them, and a kernel lock on the same file.
//!
//! The Bash programs look whether the file names a live process of a fitting name, and write their own number if not.
//! Between the two anything may happen, so ours take a `flock` on the file first: among ours the kernel decides, it
//! gives the lock back however a process ends, and a number left by a dead process is worth nothing. A Bash
//! program that has its number in the file holds no `flock`, and is honoured for as long as it lives. A process that began
//! after the file was written has only got the number of a dead one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::StateDir;

/// A process that has written a file began before that. Clocks are set meanwhile, and that of a file server differs.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

const TRY_EVERY: Duration = Duration::from_millis(50);

/// Programs that work in a backup path.
const SESSION_PROGRAMS: &[&str] = &["vmbackup"];

/// Programs that work on a VM.
const VM_PROGRAMS: &[&str] = &["vmbackup", "vmrestore", "virtnbdbackup"];

/// Longer than any PID file.
const PID_BYTES: usize = 32;

/// A lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A session is under way in this backup path.
    #[error(
        "Another vmbackup session is already running (PID {pid}). It works in the same BACKUP_PATH: wait for its end, or look at \
         it with: ps -fp {pid}"
    )]
    Session {
        /// Its process.
        pid: u32,
    },
    /// Somebody works on the VM.
    #[error(
        "another vmbackup, vmrestore or virtnbdbackup is working on this VM (PID {pid}, lock {}). Try again when it has ended; \
         look at it with: ps -fp {pid}", path.display()
    )]
    Vm {
        /// Its process; 0 when it has not said.
        pid: u32,
        /// The lock file.
        path: PathBuf,
    },
    /// The file could not be opened or written.
    #[error("Cannot write lock file {}: {source}. Is BACKUP_PATH writable, and is there space?", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// This process is the session that works in a backup path. Given back on drop, and by the kernel when the process ends.
#[derive(Debug)]
pub struct SessionLock {
    file: PidFile,
}

impl SessionLock {
    /// Takes the lock, or says who has it.
    pub fn take(state: &StateDir) -> Result<Self, LockError> {
        let path = state.session_lock();
        let failed = |source| LockError::File { path: path.clone(), source };
        state.create("locks").map_err(failed)?;
        let taken = PidFile::take(&path, SESSION_PROGRAMS, Duration::ZERO).map_err(failed)?;
        taken.map(|file| Self { file }).map_err(|pid| LockError::Session { pid })
    }

    /// Fails when a session is under way. Changes nothing, so that a dry run may ask.
    pub fn look(state: &StateDir) -> Result<(), LockError> {
        match File::open(state.session_lock()).ok().and_then(|file| holder(&file, SESSION_PROGRAMS)) {
            Some(pid) => Err(LockError::Session { pid }),
            None => Ok(()),
        }
    }

    /// Fails when a Bash program, which looks first and writes later, wrote its number over ours.
    ///
    /// To be asked once more before anything is touched: of two that took the lock in the same moment, we step back.
    pub fn confirm(&self) -> Result<(), LockError> {
        let written = pid_in(&self.file.file).filter(|pid| *pid != std::process::id());
        let replaced = || File::open(&self.file.path).ok().and_then(|file| pid_in(&file));
        let other = written.or_else(|| if self.file.is_in_place() { None } else { replaced() });
        match other.filter(|pid| is_alive(*pid, SESSION_PROGRAMS)) {
            Some(pid) => Err(LockError::Session { pid }),
            None => Ok(()),
        }
    }
}

/// This process works on a VM. Given back on drop, and by the kernel when the process ends.
#[derive(Debug)]
pub struct VmLock {
    _file: PidFile,
}

impl VmLock {
    /// Takes the lock of a VM, waiting up to `limit` for one of ours that holds it.
    pub fn take(state: &StateDir, domain: &str, limit: Duration) -> Result<Self, LockError> {
        let mut path = state.vm_lock(domain);
        let failed = |path: &Path, source| LockError::File { path: path.to_owned(), source };
        state.create("locks").map_err(|e| failed(&path, e))?;
        let mut taken = PidFile::take(&path, VM_PROGRAMS, limit);
        if let Some(portable) = state.portable_vm_lock(domain).filter(|_| taken.is_err()) {
            // The file system refuses the name. The Bash programs cannot have it there either.
            taken = PidFile::take(&portable, VM_PROGRAMS, limit);
            path = portable;
        }
        let taken = taken.map_err(|e| failed(&path, e))?;
        taken.map(|file| Self { _file: file }).map_err(|pid| LockError::Vm { pid, path })
    }

    /// Keeps others of ours out while a dead run's guest is helped, without claiming the VM: waits up to `limit`.
    /// The file must be there: the dead run left it, unless another run has come and gone since.
    pub fn hold(path: &Path, limit: Duration) -> io::Result<File> {
        let file = open(path, OFlags::empty())?;
        let until = Instant::now() + limit;
        while !try_lock(&file)? {
            if Instant::now() >= until {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            std::thread::sleep(TRY_EVERY);
        }
        Ok(file)
    }
}

/// A PID file that names this process and is locked by it.
#[derive(Debug)]
struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// `Ok(Err(pid))` when a live process of one of these programs has the file. One of ours is waited for up to `limit`:
    /// it may be the guard of a run that has just died.
    fn take(path: &Path, programs: &[&str], limit: Duration) -> io::Result<Result<Self, u32>> {
        let until = Instant::now() + limit;
        loop {
            let file = open(path, OFlags::CREATE)?;
            if !try_lock(&file)? {
                if Instant::now() >= until {
                    return Ok(Err(pid_in(&file).unwrap_or_default()));
                }
                std::thread::sleep(TRY_EVERY);
                continue;
            }
            if let Some(other) = holder(&file, programs) {
                // A program without our kernel lock: it may take hours.
                return Ok(Err(other));
            }
            write_own_pid(&file)?;
            let taken = Self { file, path: path.to_owned() };
            // If not, somebody removed it between our opening and writing: what is in its place now counts.
            if taken.is_in_place() {
                return Ok(Ok(taken));
            }
        }
    }

    /// Whether the path still leads to our file.
    fn is_in_place(&self) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Still under the lock. Whoever waits for it sees that the file is gone, and makes a new one.
        if self.is_in_place() && pid_in(&self.file) == Some(std::process::id()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Never through a symbolic link: root writes to it.
fn open(path: &Path, create: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | create;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?.into())
}

fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_own_pid(file: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// The live process of one of these programs that the file names, if it is not this one.
fn holder(file: &File, programs: &[&str]) -> Option<u32> {
    let written = file.metadata().and_then(|about| about.modified()).ok();
    let is_holder = |pid: &u32| {
        *pid != std::process::id()
            && is_alive(*pid, programs)
            && written.zip(began(*pid)).is_none_or(|(written, began)| began <= written + CLOCK_SLACK)
    };
    pid_in(file).filter(is_holder)
}

fn pid_in(file: &File) -> Option<u32> {
    let mut bytes = [0; PID_BYTES];
    let count = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..count]).ok()?.trim().parse().ok()
}

/// Whether the process lives and has one of these words in its command line. A dead one that nobody has waited for has
/// none.
fn is_alive(pid: u32, programs: &[&str]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    programs.iter().any(|program| line.contains(program))
}

/// When a process began. `None` where that cannot be told.
fn began(pid: u32) -> Option<SystemTime> {
    /// `USER_HZ`, 100 on every Linux that this runs on (proc(5)).
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything. The 22nd field, of which two stand before the name's end.
    let ticks: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let text = fs::read_to_string("/proc/stat").ok()?;
    let booted = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(booted) + TICK * ticks)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that lives for a while under a name of its choice.
    struct Named(Child);

    impl Named {
        fn new(name: &str) -> Self {
            let script = format!("exec -a {name} sleep 60");
            let child = Command::new("bash").args(["-c", &script]).spawn().unwrap();
            let named = Self(child);
            while !is_alive(named.0.id(), &["sleep", name]) || is_alive(named.0.id(), &["bash"]) {
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
                        let Ok(file) =
                            PidFile::take(&state.vm_lock("x"), VM_PROGRAMS, Duration::ZERO).unwrap()
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
}
