//! What an administrator chooses, as far as decisions follow it. How settings spell it is not said here.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

/// How long a chain of a domain goes on, or that the domain is not backed up.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
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
    /// The word for it in files, in the database and in tables.
    pub fn as_str(self) -> &'static str {
        self.into()
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
