//! Why a mode ended badly, and the exit code of each kind of error.

use super::exit::Exit;
use crate::engine::{BackupError, Trouble};
use crate::session::SessionError;
use crate::state::{LockError, RootError};

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
        SessionError::Engine(error) => exit_of(error),
    };
    (exit, error.to_string())
}

/// The exit code for one error.
pub(super) fn exit_of(error: &BackupError) -> Exit {
    match error.trouble() {
        Trouble::Storage => Exit::Storage,
        Trouble::Domain => Exit::Vm,
        Trouble::Tool => Exit::Tool,
        Trouble::Locked => Exit::Locked,
        Trouble::Signal(number) => Exit::Signal(number),
    }
}
