//! What the engine must be told: a part of the configuration, as types.

use std::path::PathBuf;
use std::time::Duration;

/// Free space that a file system must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// In bytes.
    pub bytes: u64,
    /// In per cent of the file system.
    pub percent: u64,
}

impl Reserve {
    /// The share of a file system of `total_bytes`.
    pub fn share_of(self, total_bytes: u64) -> u64 {
        total_bytes / 100 * self.percent
    }

    /// The smaller of both, for a file system of `total_bytes`.
    pub fn least(self, total_bytes: u64) -> u64 {
        self.bytes.min(self.share_of(total_bytes))
    }

    /// The larger of both, for a file system of `total_bytes`.
    pub fn most(self, total_bytes: u64) -> u64 {
        self.bytes.max(self.share_of(total_bytes))
    }
}

/// Settings of the engine, the same for all domains of a run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// LZ4 level of the streams, `None` for uncompressed ones.
    pub compression: Option<u32>,
    /// Where scratch files go while a job runs.
    pub scratch_dir: PathBuf,
    /// Kept free in the scratch directory: the smaller of both numbers.
    pub scratch_reserve: Reserve,
    /// Kept free in the target: both numbers hold.
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
}
