//! What a run did to one domain.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::copy::Stages;
use super::plan::disk_plan::DiskPlan;
use vmhost::guest::{FileSystem, OsInfo, Trimmed};
use vmhost::identity::TpmKept;
use vmplan::Plan;

/// How consistent the snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

/// One disk that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskReport {
    /// Disk target.
    pub target: String,
    /// File in the chain directory.
    pub file: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the disk that it holds.
    pub data_bytes: u64,
    /// How busy each stage of the copy was.
    pub stages: Stages,
}

/// What a run did to one domain.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was decided, and why.
    pub plan: Plan,
    /// What an earlier, dead run had left and was undone first.
    pub recovered: Vec<String>,
    /// How consistent it is. `None` when nothing was taken.
    pub method: Option<Method>,
    /// How long the guest stood still.
    #[serde(serialize_with = "as_millis", rename = "stopped_ms")]
    pub stopped: Duration,
    /// What trimming the guest before came to. `None` when it was not tried.
    pub trimmed: Option<Trimmed>,
    /// What the guest says it runs.
    pub os: Option<OsInfo>,
    /// What is mounted in the guest, as it says.
    pub file_systems: Vec<FileSystem>,
    /// What became of the state of the domain's TPM. `None` when it has none, or it was not saved.
    pub tpm: Option<TpmKept>,
    /// Where that is read from.
    #[serde(skip)]
    pub tpm_from: Option<PathBuf>,
    /// The file that the domain's definition was kept in; `None` when it is as it was.
    #[serde(skip)]
    pub definition: Option<PathBuf>,
    /// Disks copied.
    pub disks: Vec<DiskReport>,
    /// Every disk of the domain, and what became of it.
    pub every_disk: Vec<DiskPlan>,
    /// What deserves a look.
    pub warnings: Vec<String>,
    /// What is wrong with images of the domain: the point holds what could be read of them.
    pub damaged: Vec<String>,
    /// Restore points in the folder before.
    pub points_before: usize,
    /// Restore points in the folder now.
    pub points: usize,
    /// Where the previous chain went.
    pub archived_to: Option<PathBuf>,
}

pub(super) fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

impl Report {
    /// A report of a run that has done nothing yet.
    pub fn new(plan: Plan) -> Self {
        Self {
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
            warnings: vec![],
            damaged: vec![],
            points_before: 0,
            points: 0,
            archived_to: None,
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
