//! Exit codes of vmbackup and vmrestore: the same numbers as those of the Bash programs 0.5.4.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked was done.
    Ok,
    /// What has no code of its own.
    General,
    /// The configuration cannot be used.
    Configuration,
    /// Another session is running, or another program works on the VM.
    Locked,
    /// A path is missing, cannot be written, or is full.
    Storage,
    /// A VM was not found, or its backup failed.
    Vm,
    /// Another program failed.
    Tool,
    /// The arguments make no sense.
    Usage,
    /// A program or library that is needed is not there.
    Dependency,
    /// What could be read was restored, and some could not.
    Partial,
    /// Ended by a signal.
    Signal(i32),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::General => 1,
            Self::Configuration => 2,
            Self::Locked => 3,
            Self::Storage => 4,
            Self::Vm => 5,
            Self::Tool => 6,
            Self::Usage => 7,
            Self::Dependency => 8,
            Self::Partial => 9,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(1),
        }
    }

    /// The same for programs that read words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::General => "general",
            Self::Configuration => "configuration",
            Self::Locked => "locked",
            Self::Storage => "storage",
            Self::Vm => "vm",
            Self::Tool => "tool",
            Self::Usage => "usage",
            Self::Dependency => "dependency",
            Self::Partial => "partial",
            Self::Signal(_) => "signal",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
