//! The lock by which one program at a time works on a VM.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::LockError;
use super::holder::holder;
use super::pid_file::{PidFile, TRY_EVERY, open, try_lock};
use crate::StateDir;

/// Programs that work on a VM.
pub(super) const VM_PROGRAMS: &[&str] = &["vmbackup", "vmrestore", "virtnbdbackup"];

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

    /// The process that works on a VM. Changes nothing.
    pub fn look(state: &StateDir, domain: &str) -> Option<u32> {
        holder(&File::open(state.vm_lock(domain)).ok()?, VM_PROGRAMS)
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
