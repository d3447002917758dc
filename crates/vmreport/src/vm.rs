//! What became of one VM.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::backup::BackupReport;
use super::retention::RetentionReport;
use vmplan::RotationPolicy;

/// What a session did about one VM: complete when that VM has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmReport {
    /// Its name, as libvirt has it.
    pub vm: String,
    /// Its state when its turn came, in virsh's words: `running`, `shut off`.
    pub state: String,
    pub policy: RotationPolicy,
    /// Where that comes from.
    pub policy_from: String,
    /// The policy of its last backup, as far as it is known.
    pub policy_before: Option<RotationPolicy>,
    /// When it ended.
    pub ended: Timestamp,
    /// How long it took.
    #[serde(with = "seconds", rename = "seconds")]
    pub took: Duration,
    /// How many tries there were.
    pub tries: u32,
    /// Where its backups go; `None` when it has no folder.
    #[serde(flatten)]
    pub destination: Option<Destination>,
    /// Bytes of the folder, with its archives.
    pub folder_bytes: u64,
    pub archives_bytes: u64,
    /// The log of this VM alone.
    pub log_file: Option<PathBuf>,
    /// What became of older periods; `None` when nothing was backed up.
    pub retention: Option<RetentionReport>,
    #[serde(flatten)]
    pub result: VmResult,
}

/// Where a VM's backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The period, as the database names it.
    pub period: String,
    /// The folder of its chain.
    pub dir: PathBuf,
    /// The period before it.
    pub previous_period: Option<String>,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum VmResult {
    /// There is a new restore point.
    Ok {
        report: Box<BackupReport>,
    },
    /// There is one, and it holds a disk whose image is damaged.
    Damaged {
        report: Box<BackupReport>,
    },
    /// None was needed.
    Skipped {
        /// What was looked at.
        report: Box<BackupReport>,
    },
    /// Its policy is `never`.
    Excluded {
        /// Because of this.
        why: String,
    },
    Failed(Failure),
}

/// Why there is no restore point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// For people: what happened to what, why, and what helps.
    pub error: String,
    /// For programs.
    #[serde(rename = "error_code")]
    pub code: FailureCode,
    /// What kind of trouble it is. Exit codes follow from it.
    pub trouble: Trouble,
    pub next_step: NextStep,
    /// The chain that is in the folder; `None` when there is none.
    pub chain: Option<ChainOnDisk>,
    /// What was found and done before; `None` when it had not been decided what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<BackupReport>>,
}

/// Why a VM was not backed up, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The VM has checkpoints of another program.
    ForeignCheckpoints,
    /// Checkpoints or bitmaps that the chain needs are gone, and the settings forbid a repair.
    CheckpointStale,
    /// Chain and checkpoints do not fit, and the settings forbid a repair.
    CheckpointBroken,
    /// A folder could not be made or used.
    Directory,
    /// The guest could not be paused.
    Pause,
    /// libvirt or QEMU failed or did not answer.
    Libvirt,
    /// Target or scratch space is short, or cannot be written.
    Storage,
    /// Another program is missing or failed.
    Tool,
    /// Another run has the VM.
    Locked,
    /// Its name cannot have a folder.
    FolderName,
    /// Somebody stopped the run meanwhile.
    Stopped,
    /// Somebody had stopped the run before its turn came.
    NotBegun,
    /// Something else; the error tells.
    Other,
}

/// What kind of trouble it is. Exit codes follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Space, permissions, paths.
    Storage,
    /// The domain, its state, its job.
    Domain,
    /// Another program we need.
    Tool,
    /// Somebody else is at it.
    Locked,
    /// A signal ended the run.
    Signal(i32),
}

/// What helps after a backup failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextStep {
    /// Only somebody who looks: another try would fail in the same way.
    GiveUp,
    /// The same again, later.
    TryAgain,
    /// A new chain: bitmaps, checkpoints or the chain do not do what they must.
    TryFull,
}

/// The restore points of a chain, as names and the beginnings of its files tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainOnDisk {
    pub points: u64,
    /// Those that can be restored.
    pub restorable: u64,
}

impl VmResult {
    /// The word in tables. What somebody must look at is in capitals.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Damaged { .. } => "DAMAGED",
            Self::Skipped { .. } => "skipped",
            Self::Excluded { .. } => "excluded",
            Self::Failed(_) => "FAILED",
        }
    }

    /// What the backup did, if it came to its end. What one that failed did is in its [`failure`](Self::failure).
    pub fn report(&self) -> Option<&BackupReport> {
        match self {
            Self::Ok { report } | Self::Damaged { report } | Self::Skipped { report } => Some(report),
            Self::Excluded { .. } | Self::Failed(_) => None,
        }
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

impl VmReport {
    /// The policy of the last backup, where this one has another. A VM that is excluded now keeps what it has.
    pub fn other_policy_before(&self) -> Option<RotationPolicy> {
        self.policy_before.filter(|before| *before != self.policy && self.policy != RotationPolicy::Never)
    }
}

/// A time as seconds with a fraction.
mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
