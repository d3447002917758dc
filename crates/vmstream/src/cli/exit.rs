//! Exit codes of every command.

use std::process::ExitCode;

/// How the program ends. Also clap's own code for wrong usage is 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done; a verified set is good.
    Good = 0,
    /// The backup set is damaged.
    Damaged = 1,
    /// Not a backup set, unreadable, not proven, or not usable as asked.
    CannotTell = 2,
}

impl Exit {
    /// What counts of what was found come to: damage before what nobody can tell.
    pub(crate) fn of_counts(damaged: usize, unknown: usize) -> Self {
        match (damaged, unknown) {
            (1.., _) => Self::Damaged,
            (0, 1..) => Self::CannotTell,
            (0, 0) => Self::Good,
        }
    }

    /// The worse of two: damage before what nobody can tell.
    pub(crate) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Damaged, _) | (_, Self::Damaged) => Self::Damaged,
            (Self::CannotTell, _) | (_, Self::CannotTell) => Self::CannotTell,
            _ => Self::Good,
        }
    }

    /// The worse of what was found and what became of the result: one that could not be written is no success.
    pub(crate) fn unless(self, written: Self) -> Self {
        if self == Self::Good { written } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
