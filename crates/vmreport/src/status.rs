//! How the VMs of a backup path stand, as one value: `vmbackup/status/1`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Serialize, Serializer};

use super::session::SessionKind;
use vmplan::RotationPolicy;

/// How the VMs of a backup path stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// The moment that ages are told of.
    pub at: Timestamp,
    /// The age from which on a VM's newest restore point is too old; `None`: no age is.
    #[serde(rename = "max_age_seconds", serialize_with = "seconds")]
    pub max_age: Option<Duration>,
    /// The session that is under way.
    pub running: Option<RunningSession>,
    /// By name.
    pub vms: Vec<VmStanding>,
    /// What the configuration asks for and this version cannot do.
    pub not_served: Vec<NotServed>,
    /// What cannot be told, because something did not answer or could not be read.
    pub unknown: Vec<String>,
}

/// A session that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningSession {
    pub pid: u32,
    /// What it says of itself; `None` where it is a Bash program's, or has not got so far.
    pub began: Option<Timestamp>,
    pub kind: Option<SessionKind>,
    /// The VMs that have ended.
    pub ended_vms: usize,
}

/// How one VM stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmStanding {
    pub vm: String,
    /// Whether libvirt knows it. `None` when libvirt did not answer.
    pub defined: Option<bool>,
    pub policy: RotationPolicy,
    /// A program works on it now: that process.
    pub at_work_pid: Option<u32>,
    pub last_run: Option<LastRun>,
    /// The last backup that ended well: the database's, or the newest point on disk where that is later or all there is.
    pub last_success: Option<Timestamp>,
    /// Tries that failed since.
    pub failed_tries: u64,
    /// Why the last of them failed.
    pub last_error: Option<String>,
    /// How old what can be restored is: that of the newest restore point that can be, or of the look since then that found the VM
    /// unchanged. `None` when nothing can be restored, or nothing tells its date.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Option<Duration>,
    /// The first day of the next period, on which a new chain begins. `None` under a policy without periods.
    pub next_period: Option<Date>,
    pub chain: Option<NewestChain>,
    /// Bytes of its folder, with all archives.
    pub folder_bytes: u64,
    pub archives_bytes: u64,
    pub health: Health,
    /// Disks that no backup has, though no setting leaves them out.
    pub left_out: Vec<LeftOutDisk>,
    /// What broken runs and removals have left.
    pub leftovers: Vec<Leftover>,
    /// What else somebody should look at.
    pub problems: Vec<String>,
    /// What the exit code tells.
    pub faults: Vec<Fault>,
}

/// The newest run that came to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastRun {
    /// When it ended, where the database says so.
    pub at: Option<Timestamp>,
    pub result: RunResult,
}

/// How a run ended for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    Success,
    Failed,
    /// It was off and as at its last backup.
    Unchanged,
    /// Another program was at it.
    Skipped,
    Excluded,
}

/// The newest chain of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewestChain {
    pub period: String,
    pub folder: PathBuf,
    /// Its restore points.
    pub points: usize,
    /// Those of them that can be restored.
    pub restorable: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

/// How the backups of a VM are, as far as names, the beginnings of files and the database tell. The worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All points of the newest chain can be restored, and the last try did not fail.
    Good,
    /// So can they, but the last try failed.
    Failing,
    /// Not every point can be restored.
    Damaged,
    /// There is no chain.
    NoBackup,
}

/// A disk that no backup has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOutDisk {
    pub disk: String,
    pub why: String,
}

/// Something that is no backup and lies where backups are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    pub kind: LeftoverKind,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Who has left something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftoverKind {
    /// A file of a backup that was killed; or of the one that runs, while a program works on the VM.
    Unfinished,
    /// Such a file that a later run put aside, because nobody could tell whose it is.
    PutAside,
    /// A folder that was being removed.
    Removal,
    /// The journal of a run that broke off, or of the one that runs.
    Journal,
}

/// Why the exit code is 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    TooOld,
    NoRestorablePoint,
    DiskInNoBackup,
}

/// Something that the configuration asks for and this version cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotServed {
    pub said: String,
    pub fix: String,
}

/// Which part of a table a VM is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    BackedUp,
    /// Its policy is `never`.
    Excluded,
    /// libvirt does not know it any more.
    Forgotten,
}

impl VmStanding {
    pub fn group(&self) -> Group {
        match (self.defined, self.policy) {
            (Some(false), _) => Group::Forgotten,
            (_, RotationPolicy::Never) => Group::Excluded,
            _ => Group::BackedUp,
        }
    }
}

/// The sums of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatusTotals {
    /// VMs that should be backed up.
    pub backed_up: usize,
    pub excluded: usize,
    pub forgotten: usize,
    /// VMs that the exit code tells of.
    pub with_faults: usize,
    pub folder_bytes: u64,
    pub archives_bytes: u64,
}

/// A status as an answer: with its sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusAnswer<'a> {
    #[serde(flatten)]
    pub report: &'a StatusReport,
    pub totals: StatusTotals,
}

impl StatusReport {
    pub fn answer(&self) -> StatusAnswer<'_> {
        StatusAnswer { report: self, totals: self.totals() }
    }

    /// True when the exit code has something to tell.
    pub fn has_faults(&self) -> bool {
        self.vms.iter().any(|vm| !vm.faults.is_empty())
    }

    pub fn totals(&self) -> StatusTotals {
        let count = |group: Group| self.vms.iter().filter(|vm| vm.group() == group).count();
        StatusTotals {
            backed_up: count(Group::BackedUp),
            excluded: count(Group::Excluded),
            forgotten: count(Group::Forgotten),
            with_faults: self.vms.iter().filter(|vm| !vm.faults.is_empty()).count(),
            folder_bytes: self.vms.iter().map(|vm| vm.folder_bytes).sum(),
            archives_bytes: self.vms.iter().map(|vm| vm.archives_bytes).sum(),
        }
    }
}

fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs()).serialize(serializer)
}
