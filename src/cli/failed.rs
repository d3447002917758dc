//! Why a mode ended badly, and the exit code of each kind of error.

use super::exit::Exit;
use crate::engine::cancel::{Cancel, StopReason};
use crate::session::SessionError;
use vmreport::{Ending, Trouble, VmReport};
use vmstore::{LockError, RootError};

/// An exit code and a text to stand behind `Error: `.
pub(super) type Failed = (Exit, String);

pub(super) fn lock_error(error: LockError) -> Failed {
    let exit = if matches!(error, LockError::File { .. }) { Exit::Storage } else { Exit::Locked };
    (exit, error.to_string())
}

pub(super) fn root_error(error: RootError) -> Failed {
    let exit = if matches!(error, RootError::OtherHost { .. }) { Exit::Locked } else { Exit::Storage };
    (exit, error.to_string())
}

pub(super) fn session_error(error: SessionError) -> Failed {
    let exit = match &error {
        SessionError::NoBackupPath(_) | SessionError::NotADirectory(_) | SessionError::NotWritable { .. } => {
            Exit::Storage
        }
        SessionError::Libvirt { .. } => Exit::Tool,
        SessionError::UnknownVm { .. } => Exit::Vm,
        SessionError::Engine(error) => exit_of(error.trouble()),
    };
    (exit, error.to_string())
}

/// The exit code for one kind of trouble.
fn exit_of(trouble: Trouble) -> Exit {
    match trouble {
        Trouble::Storage => Exit::Storage,
        Trouble::Domain => Exit::Vm,
        Trouble::Tool => Exit::Tool,
        Trouble::Locked => Exit::Locked,
        Trouble::Signal(number) => Exit::Signal(number),
    }
}

/// How the program ends after a run of these VMs.
pub(super) fn exit_of_run(vms: &[VmReport], cancel: &Cancel) -> Exit {
    if let Some(StopReason::Signal(number)) = cancel.stopped() {
        return Exit::Signal(number);
    }
    let failed = vms.iter().filter(|vm| vm.result.ending() == Ending::Failed);
    // Where there is no failure, an image is damaged.
    let exit = |vm: &VmReport| vm.result.failure().map_or(Exit::Vm, |failure| exit_of(failure.trouble));
    let mut kinds: Vec<Exit> = failed.map(exit).collect();
    kinds.dedup();
    match kinds.as_slice() {
        [] => Exit::Ok,
        [one] => *one,
        _ => Exit::Vm,
    }
}
