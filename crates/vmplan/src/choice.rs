//! What an administrator chooses, as far as decisions follow it. How settings spell it is not said here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How long a chain of a domain goes on, or that the domain is not backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RotationPolicy {
    /// A period for each day.
    Daily,
    /// A period for each ISO week.
    Weekly,
    /// A period for each month.
    Monthly,
    /// One period without end.
    Accumulate,
    /// No backup.
    Never,
}

impl RotationPolicy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Accumulate, Self::Never];

    /// The word for it in files, in the database and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Accumulate => "accumulate",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for RotationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do when libvirt's checkpoints and the chain on disk do not fit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoRecovery {
    /// The chain goes to the archive, a new one begins.
    Yes,
    /// The VM fails, and is told how to repair it.
    Warn,
    /// The VM fails.
    No,
}

/// What is taken of a virtual machine that is shut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflineMode {
    /// A copy of its disks.
    #[default]
    Copy,
    /// The next point of its chain, with the machine started paused for it.
    Incremental,
}
