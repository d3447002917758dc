//! What a backup found and did: each phase returns its part, and here the parts become the one report.
//!
//! Must not live here: how a phase comes to its part; what is drawn of the report (`vmreport`).

use std::path::PathBuf;

use crate::engine::BackupError;
use crate::engine::domain::outside::Outside;
use crate::engine::look::observe::Observed;
use crate::engine::plan::disk_plan::{self, DiskPlan};
use crate::engine::snapshot::hold::Held;
use crate::engine::snapshot::identity::IdentityKept;
use vmhost::guest::Guest;
use vmplan::{Note, Plan};
use vmreport::{BackupReport, DiskReport, FileSystem, KeptFile, OsInfo, PlanReport, Trimmed};

/// What is decided for a domain, and the facts that it was decided by.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) plan: Plan,
    /// Every disk of the domain, and what becomes of it.
    pub(crate) every_disk: Vec<DiskPlan>,
    /// What it uses besides disks, and no backup holds.
    outside: Vec<Outside>,
    /// What is wrong with its images, as far as they say so themselves.
    marked_corrupt: Vec<String>,
    /// Restore points in the folder before.
    points_before: usize,
}

/// What is known of a backup so far: what each phase returned, from the decision on.
#[derive(Debug)]
pub(crate) struct Facts {
    decided: Decided,
    /// What an earlier, dead run had left and was undone first, and repairs.
    pub(crate) recovered: Vec<String>,
    /// What deserves a look.
    pub(crate) warnings: Vec<String>,
    /// What is wrong with images of the domain.
    pub(crate) damaged: Vec<String>,
    os: Option<OsInfo>,
    file_systems: Vec<FileSystem>,
    pub(crate) trimmed: Option<Trimmed>,
    /// How the guest was kept still. `None` before the snapshot.
    pub(crate) held: Option<Held>,
    /// What the scratch files of the job held at most. `None` without a job.
    pub(crate) scratch_peak_bytes: Option<u64>,
    /// What was free at the target before anything was written. `None` when nothing was to be written.
    pub(crate) target_free_bytes: Option<u64>,
    pub(crate) disks: Vec<DiskReport>,
    pub(crate) identity: Option<IdentityKept>,
    /// Where the previous chain went.
    pub(crate) archived_to: Option<PathBuf>,
    /// Restore points in the folder now. `None` before the commit.
    pub(crate) points: Option<usize>,
    /// The file that the domain's definition was kept in; `None` when it is as it was.
    pub(crate) definition: Option<KeptFile>,
}

/// A backup that failed, and what was known by then: nothing when it had not been decided what to do.
#[derive(Debug)]
pub struct FailedBackup<T = BackupReport> {
    /// Why.
    pub error: BackupError,
    /// What was found and done before.
    pub known: Option<Box<T>>,
}

impl<T, E: Into<BackupError>> From<E> for FailedBackup<T> {
    fn from(error: E) -> Self {
        Self { error: error.into(), known: None }
    }
}

impl FailedBackup<Facts> {
    /// The same for whoever is told.
    pub(super) fn into_report(self) -> FailedBackup {
        FailedBackup { error: self.error, known: self.known.map(|known| Box::new(known.into_report())) }
    }
}

impl Decided {
    /// What follows from the facts.
    pub(crate) fn of(observed: &Observed, plan: Plan, raw_disks: bool) -> Self {
        let before = &observed.seen.chain;
        Self {
            every_disk: disk_plan::plan_disks(observed, &plan.decision, raw_disks),
            outside: observed.facts.outside.clone(),
            marked_corrupt: observed.marked_corrupt(),
            points_before: if before.is_copy { 1 } else { before.points.len() },
            plan,
        }
    }
}

impl Facts {
    /// What is known once it is decided what to do.
    pub(crate) fn new(decided: Decided) -> Self {
        Self {
            warnings: decided.plan.notes.iter().map(ToString::to_string).collect(),
            damaged: decided.marked_corrupt.clone(),
            decided,
            recovered: vec![],
            os: None,
            file_systems: vec![],
            trimmed: None,
            held: None,
            scratch_peak_bytes: None,
            target_free_bytes: None,
            disks: vec![],
            identity: None,
            archived_to: None,
            points: None,
            definition: None,
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.decided.plan
    }

    pub(crate) fn every_disk(&self) -> &[DiskPlan] {
        &self.decided.every_disk
    }

    /// Takes what the guest says of itself.
    pub(crate) fn add_guest(&mut self, guest: &Guest<'_>) {
        self.os.clone_from(&guest.os);
        self.file_systems.clone_from(&guest.file_systems);
    }

    /// All of it, for whoever is told. How many bytes went to the archive is not looked at here.
    pub(crate) fn into_report(self) -> BackupReport {
        let Decided { plan, every_disk, outside, points_before, marked_corrupt: _ } = self.decided;
        let is_doubtful = |note: &Note| matches!(note, Note::ChangedUnseen(_));
        let (tpm, tpm_from) = self.identity.and_then(|kept| kept.tpm).unzip();
        let (method, stopped) = self.held.map(|held| (held.method, held.stopped)).unzip();
        BackupReport {
            archived_in_doubt: self.archived_to.is_some() && plan.notes.iter().any(is_doubtful),
            archived_bytes: 0,
            archived_to: self.archived_to,
            why: plan.why.to_string(),
            plan: PlanReport::from(&plan),
            recovered: self.recovered,
            method,
            stopped: stopped.unwrap_or_default(),
            trimmed: self.trimmed,
            os: self.os,
            file_systems: self.file_systems,
            tpm,
            tpm_from,
            definition: self.definition,
            disks: self.disks,
            every_disk: every_disk.iter().map(DiskPlan::outcome).collect(),
            not_in_backup: outside.iter().map(ToString::to_string).collect(),
            warnings: self.warnings,
            damaged: self.damaged,
            points_before,
            scratch_peak_bytes: self.scratch_peak_bytes,
            target_free_bytes: self.target_free_bytes,
            points: self.points.unwrap_or(points_before),
        }
    }
}
