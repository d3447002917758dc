//! Why a mode ended badly, and the exit code of each kind of error.

use super::arguments::UsageError;
use crate::engine::cancel::{Cancel, StopReason};
use crate::session::SessionError;
use vmreport::{Ending, Exit, Trouble, VmReport};
use vmstore::{LockError, RootError};

/// Why what was asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// How the program ends.
    pub(super) exit: Exit,
    /// For people: what happened to what, why, and what to do. Stands behind `Error: `.
    pub(super) said: String,
    /// What of that is to be done, where it can be told apart.
    pub(super) fix: Option<String>,
    /// Who knows of it.
    pub(super) known: Known,
}

/// Where an error has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nowhere,
    /// In the log, before its last lines.
    InLog,
    /// There too, and a person gets it on standard output, as from the Bash program.
    AsResult,
}

impl Failed {
    pub(super) fn new(exit: Exit, said: impl Into<String>) -> Self {
        Self { exit, said: said.into(), fix: None, known: Known::Nowhere }
    }

    /// The same with what is to be done, which the text says too.
    pub(super) fn fix(self, fix: impl Into<Option<String>>) -> Self {
        Self { fix: fix.into(), ..self }
    }

    pub(super) fn known(self, known: Known) -> Self {
        Self { known, ..self }
    }
}

impl From<UsageError> for Failed {
    fn from(error: UsageError) -> Self {
        let fix = error.0.split_once('\n').map(|(_, fix)| fix.to_owned());
        Self::new(Exit::Usage, error.0).fix(fix)
    }
}

pub(super) fn lock_error(error: LockError) -> Failed {
    let exit = if matches!(error, LockError::File { .. }) { Exit::Storage } else { Exit::Locked };
    Failed::new(exit, error.to_string()).fix(error.fix())
}

pub(super) fn root_error(error: RootError) -> Failed {
    let exit = if matches!(error, RootError::OtherHost { .. }) { Exit::Locked } else { Exit::Storage };
    Failed::new(exit, error.to_string()).fix(error.fix())
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
    Failed::new(exit, error.to_string()).fix(error.fix())
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
