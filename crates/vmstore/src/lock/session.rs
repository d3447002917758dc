//! The lock by which one session at a time works in a backup path.

use std::fs::File;
use std::time::Duration;

use super::LockError;
use super::holder::{holder, is_alive, pid_in};
use super::pid_file::PidFile;
use crate::StateDir;

/// Programs that work in a backup path.
const SESSION_PROGRAMS: &[&str] = &["vmbackup"];

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
