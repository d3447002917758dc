//! What the engine must be told: a part of the configuration, as types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::method::Method;
use vmconfig::value::Consistency;
use vmhost::guest::TrimSettings;
use vmplan::Rules;
use vmplan::glob::Pattern;

/// Free space that a file system must keep: the smaller of both numbers, so that the share suits small file systems
/// and the fixed number large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where emulated TPMs are.
#[derive(Clone, Debug)]
pub struct TpmSettings {
    /// The folder with one folder for each domain.
    pub state_dir: PathBuf,
    /// How long a state may change while it is copied.
    pub limit: Duration,
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
    /// How running guests are held still for the snapshot.
    pub consistency: Consistency,
    /// The same for single domains, by name.
    pub vm_consistency: BTreeMap<String, Consistency>,
    /// Domains, by name, of which increments are compared with the chain (true), or not. One that is not named is.
    pub vm_tripwire: BTreeMap<String, bool>,
    /// Freeze only the file systems mounted there; empty means all.
    pub freeze_paths: Vec<String>,
    /// How long a freeze may take, and how long the guest may be frozen.
    pub freeze_limit: Duration,
    /// A disk's copy that makes no progress for so long is given up.
    pub stall_limit: Duration,
    /// How guests are trimmed before a backup; `None`: not at all.
    pub trim: Option<TrimSettings>,
    /// Names of domains that are not trimmed.
    pub trim_exclude: Vec<Pattern>,
    /// How the state of emulated TPMs is saved; `None`: not at all.
    pub tpm: Option<TpmSettings>,
    /// How long a Windows guest may take for each question about its BitLocker keys; `None`: they are not asked for.
    pub recovery_keys: Option<Duration>,
    /// Copy raw disks as images with each full.
    pub raw_disks: bool,
    /// Only these disk targets; empty means all.
    pub include_disks: Vec<String>,
    /// Not these disk targets.
    pub exclude_disks: Vec<String>,
    /// Of single domains, by name, not these disk targets either.
    pub vm_exclude_disks: BTreeMap<String, Vec<String>>,
    /// When chains end, and what is repaired.
    pub rules: Rules,
}

impl EngineSettings {
    /// Whether increments of the domain of this name are compared with what the chain knows.
    pub fn has_tripwire(&self, domain: &str) -> bool {
        self.vm_tripwire.get(domain).copied().unwrap_or(true)
    }

    /// The disks of the domain of this name that are left out, beside those of all domains.
    pub fn excluded_disks_of(&self, domain: &str) -> &[String] {
        self.vm_exclude_disks.get(domain).map_or(&[], Vec::as_slice)
    }

    /// How the domain of this name is held still.
    pub fn consistency_of(&self, domain: &str) -> Consistency {
        self.vm_consistency.get(domain).copied().unwrap_or(self.consistency)
    }
}
