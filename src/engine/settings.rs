//! What the engine must be told: a part of the configuration, as types.

use std::path::PathBuf;
use std::time::Duration;

use super::copy::Method;
use crate::policy::Rules;

/// Free space that a file system must keep: the smaller of both numbers, so that the share suits small file systems
/// and the fixed number large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// In bytes.
    pub bytes: u64,
    /// In per cent of the file system.
    pub percent: u64,
}

impl Reserve {
    /// In bytes, for a file system of `total_bytes`.
    pub fn bytes_of(self, total_bytes: u64) -> u64 {
        self.bytes.min(total_bytes / 100 * self.percent)
    }
}

/// Settings of the engine, the same for all domains of a run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// How streams are compressed.
    pub method: Method,
    /// Where scratch files go while a job runs.
    pub scratch_dir: PathBuf,
    /// Kept free in the scratch directory.
    pub scratch_reserve: Reserve,
    /// Kept free in the target.
    pub target_reserve: Reserve,
    /// Freeze guests that have an agent; otherwise they are paused.
    pub freeze: bool,
    /// How long a freeze may take, and how long the guest may be frozen.
    pub freeze_limit: Duration,
    /// Copy raw disks as images with each full.
    pub raw_disks: bool,
    /// Only these disk targets; empty means all.
    pub include_disks: Vec<String>,
    /// Not these disk targets.
    pub exclude_disks: Vec<String>,
    /// When chains end, and what is repaired.
    pub rules: Rules,
}
