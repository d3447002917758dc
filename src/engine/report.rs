//! What a run did to one domain, as the engine knows it. What is told of it is [`vmreport::BackupReport`].

use std::path::PathBuf;
use std::time::Duration;

use super::domain::outside::Outside;
use super::plan::disk_plan::DiskPlan;
use vmplan::Plan;
use vmreport::{FileSystem, OsInfo, TpmKept, Trimmed};

pub use vmreport::{DiskReport, Method};

/// What a run did to one domain.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was decided, and why.
    pub plan: Plan,
    /// What an earlier, dead run had left and was undone first.
    pub recovered: Vec<String>,
    /// How consistent it is. `None` when nothing was taken.
    pub method: Option<Method>,
    /// How long the guest stood still.
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
    pub tpm_from: Option<PathBuf>,
    /// The file that the domain's definition was kept in; `None` when it is as it was.
    pub definition: Option<PathBuf>,
    /// Disks copied.
    pub disks: Vec<DiskReport>,
    /// Every disk of the domain, and what became of it.
    pub every_disk: Vec<DiskPlan>,
    /// What it uses besides disks, and no backup holds.
    pub outside: Vec<Outside>,
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
            outside: vec![],
            warnings: vec![],
            damaged: vec![],
            points_before: 0,
            points: 0,
            archived_to: None,
        }
    }
}
