//! What a backup that came to its end did.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::{DiskOutcome, DiskReport, Stages};
use vmplan::{Decision, Repair, Why};

/// What a backup did to one VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupReport {
    /// What was decided, and why.
    pub plan: PlanReport,
    /// What an earlier, dead run had left and was undone first, and repairs.
    pub recovered: Vec<String>,
    /// How consistent it is. `None` when nothing was taken.
    pub method: Option<Method>,
    /// How long the guest stood still.
    #[serde(with = "millis", rename = "stopped_ms")]
    pub stopped: Duration,
    /// What trimming the guest before came to. `None` when it was not tried.
    pub trimmed: Option<Trimmed>,
    /// What the guest says it runs.
    pub os: Option<OsInfo>,
    /// What is mounted in the guest, as it says.
    pub file_systems: Vec<FileSystem>,
    /// What became of the state of the domain's TPM. `None` when it has none, or it was not saved.
    pub tpm: Option<TpmKept>,
    /// Where that was read from.
    pub tpm_from: Option<PathBuf>,
    /// The file that the domain's definition was kept in; `None` when it is as it was.
    pub definition: Option<KeptFile>,
    /// Disks copied.
    pub disks: Vec<DiskReport>,
    /// Every disk of the domain, and what became of it.
    pub every_disk: Vec<DiskOutcome>,
    /// What the domain uses besides disks, and no backup holds.
    pub not_in_backup: Vec<String>,
    /// What deserves a look.
    pub warnings: Vec<String>,
    /// What is wrong with images of the domain: the point holds what could be read of them.
    pub damaged: Vec<String>,
    /// Restore points in the folder before.
    pub points_before: usize,
    /// Restore points in the folder now.
    pub points: usize,
    /// What the scratch files of the backup job held at most. `None` without a job.
    pub scratch_peak_bytes: Option<u64>,
    /// What was free at the target before anything was written. `None` when nothing was to be written.
    pub target_free_bytes: Option<u64>,
    /// Where the previous chain went.
    pub archived_to: Option<PathBuf>,
    pub archived_bytes: u64,
    /// Points of it are doubtful, so that nothing may remove it: a disk had changed and nothing said so.
    pub archived_in_doubt: bool,
    /// Why it was decided so, for people.
    pub why: String,
}

/// What was decided, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    pub decision: Decision,
    pub why: Why,
    /// The domain was shut off, and was started paused for it.
    pub start: bool,
    /// Checkpoints of ours that no chain needed any more; deleted before the backup.
    pub drop_checkpoints: Vec<String>,
    /// Repairs that let the chain go on, before the backup.
    pub repairs: Vec<Repair>,
    /// What deserves a look.
    pub notes: Vec<String>,
}

impl From<&vmplan::Plan> for PlanReport {
    fn from(plan: &vmplan::Plan) -> Self {
        Self {
            decision: plan.decision.clone(),
            why: plan.why.clone(),
            start: plan.start,
            drop_checkpoints: plan.drop_checkpoints.clone(),
            repairs: plan.repairs.clone(),
            notes: plan.notes.iter().map(ToString::to_string).collect(),
        }
    }
}

/// How consistent the snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// File systems were frozen by the guest agent: application-consistent.
    Agent,
    /// CPUs were paused: crash-consistent.
    Paused,
    /// The domain was paused already, by somebody else, and stayed so.
    AlreadyPaused,
    /// Its file systems were frozen already, by somebody else, and stayed so as far as it is up to us.
    AlreadyFrozen,
    /// Neither: crash-consistent, as after a power cut.
    Running,
    /// The domain was shut off.
    Offline,
    /// The domain was shut off, and was started paused for it.
    StartedPaused,
}

/// What kind of system the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestOs {
    /// Microsoft Windows.
    Windows,
    /// Anything else that has an agent.
    Other,
}

/// What the guest says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsInfo {
    pub os: GuestOs,
    /// For people, for example `Debian GNU/Linux 12 (bookworm)`. May be empty.
    pub name: String,
}

/// A file system that is mounted in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Where it is mounted: `/srv`, `C:\`.
    pub mount_point: String,
    /// `ext4`, `NTFS` …
    pub kind: String,
    /// Volume name or device.
    pub name: String,
}

/// What a trim came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trimmed {
    /// No disk of the domain passes discards on: nothing would be gained.
    NoDiscard,
    /// The guest gave back what it could.
    Done {
        /// What each file system gave.
        paths: Vec<TrimmedPath>,
        /// Sum of what is known, in bytes.
        bytes: u64,
    },
    /// The agent refused, was silent, or the run was to stop.
    Failed(String),
}

/// What trimming one file system gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimmedPath {
    /// Mount point.
    pub path: String,
    /// Bytes given back, unknown on Windows; or what went wrong.
    pub outcome: Result<Option<u64>, String>,
}

/// What became of a TPM's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpmKept {
    Saved,
    /// It is as at the point before: a link to that.
    Unchanged,
}

/// A small file that was written, with what it can be compared with later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    pub path: PathBuf,
    /// Its bytes, and its time in seconds of the epoch. `None` when it could not be looked at.
    pub bytes_and_mtime: Option<(u64, i64)>,
}

impl BackupReport {
    /// Of a backup of which only the plan is known.
    pub fn of_plan(plan: PlanReport) -> Self {
        Self {
            why: plan.why.to_string(),
            plan,
            recovered: vec![],
            method: None,
            stopped: Duration::ZERO,
            trimmed: None,
            os: None,
            file_systems: vec![],
            tpm: None,
            tpm_from: None,
            definition: None,
            disks: vec![],
            every_disk: vec![],
            not_in_backup: vec![],
            warnings: vec![],
            damaged: vec![],
            points_before: 0,
            points: 0,
            scratch_peak_bytes: None,
            target_free_bytes: None,
            archived_to: None,
            archived_bytes: 0,
            archived_in_doubt: false,
        }
    }

    /// The bytes of a disk's file, if it has one.
    pub fn bytes_of(&self, target: &str) -> Option<u64> {
        self.disks.iter().find(|disk| disk.target == target).map(|disk| disk.file_bytes)
    }

    /// How busy the stages were while the disk was copied that took longest.
    pub fn stages(&self) -> Option<Stages> {
        self.disks.iter().map(|disk| disk.stages).max_by_key(|stages| stages.took)
    }

    /// Bytes written to the target.
    pub fn file_bytes(&self) -> u64 {
        self.disks.iter().map(|d| d.file_bytes).sum()
    }
}

/// A time as whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
