//! What a backup found and did: each step returns its part, and here the parts become the one report.
//!
//! Must not live here: how a step comes to its part; what is drawn of the report (`vmreport`).

use std::path::PathBuf;

use crate::engine::BackupError;
use crate::engine::domain::not_backed_up::NotBackedUp;
use crate::engine::look::observe::Observed;
use crate::engine::plan::disk_plan::{self, DiskPlan};
use crate::engine::snapshot::identity::IdentityKept;
use crate::engine::snapshot::quiesce::Quiesced;
use vmplan::{Note, Plan};
use vmreport::{BackupReport, DiskReport, FileSystem, KeptFile, OsInfo, PlanReport, Trimmed};

/// What is decided for a domain, and the facts that it was decided by.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) plan: Plan,
    /// Every disk of the domain, and what becomes of it.
    pub(crate) every_disk: Vec<DiskPlan>,
    /// What it uses besides disks, and no backup holds.
    not_backed_up: Vec<NotBackedUp>,
    /// What is wrong with its images, as far as that is known without reading them.
    known_damage: Vec<String>,
    /// Restore points in the folder before.
    points_before: usize,
}

/// What a step of a backup found and did. What it does not say is empty.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// What an earlier, dead run had left and was undone first, and repairs.
    pub(crate) recovered: Vec<String>,
    /// What deserves a look.
    pub(crate) warnings: Vec<String>,
    /// What is wrong with images of the domain. `None` when only that counts which was known before.
    pub(crate) damaged: Option<Vec<String>>,
    pub(crate) os: Option<OsInfo>,
    pub(crate) file_systems: Vec<FileSystem>,
    pub(crate) trimmed: Option<Trimmed>,
    /// How the guest was kept still. `None` before the snapshot.
    pub(crate) held: Option<Quiesced>,
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

/// What a step found, also when it failed half-way, and what came of it.
pub(crate) type Step<T = ()> = (Found, Result<T, BackupError>);

pub(crate) fn step<T>(take: impl FnOnce(&mut Found) -> Result<T, BackupError>) -> Step<T> {
    let mut found = Found::default();
    let done = take(&mut found);
    (found, done)
}

/// What is known of a backup so far: the decision, and what each step found.
#[derive(Debug)]
pub(crate) struct Facts {
    decided: Decided,
    found: Found,
}

/// A backup that failed, and what was known by then: nothing when it had not been decided what to do.
#[derive(Debug)]
pub struct FailedBackup<T = BackupReport> {
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
            not_backed_up: observed.facts.not_backed_up.clone(),
            known_damage: observed.known_damage(),
            points_before: if before.is_copy { 1 } else { before.points.len() },
            plan,
        }
    }
}

impl Found {
    /// What is known with what a further step found.
    fn and(self, step: Self) -> Self {
        Self {
            recovered: [self.recovered, step.recovered].concat(),
            warnings: [self.warnings, step.warnings].concat(),
            damaged: step.damaged.or(self.damaged),
            os: step.os.or(self.os),
            file_systems: [self.file_systems, step.file_systems].concat(),
            trimmed: step.trimmed.or(self.trimmed),
            held: step.held.or(self.held),
            scratch_peak_bytes: step.scratch_peak_bytes.or(self.scratch_peak_bytes),
            target_free_bytes: step.target_free_bytes.or(self.target_free_bytes),
            disks: [self.disks, step.disks].concat(),
            identity: step.identity.or(self.identity),
            archived_to: step.archived_to.or(self.archived_to),
            points: step.points.or(self.points),
            definition: step.definition.or(self.definition),
        }
    }
}

impl Facts {
    /// What is known once it is decided what to do.
    pub(crate) fn new(decided: Decided) -> Self {
        let warnings = decided.plan.notes.iter().map(ToString::to_string).collect();
        Self { decided, found: Found { warnings, ..Found::default() } }
    }

    /// Takes in what a step found. Returns what came of it.
    pub(crate) fn add<T>(&mut self, (found, done): Step<T>) -> Result<T, BackupError> {
        self.found = std::mem::take(&mut self.found).and(found);
        done
    }

    /// Takes in what deserves a look although the backup is there.
    pub(crate) fn warn(&mut self, warning: String) {
        self.found.warnings.push(warning);
    }

    /// Takes in what was undone or repaired before all else.
    pub(crate) fn recovered_first(&mut self, recovered: &[String]) {
        self.found.recovered.splice(0..0, recovered.iter().cloned());
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.decided.plan
    }

    pub(crate) fn every_disk(&self) -> &[DiskPlan] {
        &self.decided.every_disk
    }

    /// What is wrong with images of the domain, as far as that was looked at.
    pub(crate) fn damaged(&self) -> Vec<String> {
        self.found.damaged.clone().unwrap_or_default()
    }

    /// All of it, for whoever is told. How many bytes went to the archive is not looked at here.
    pub(crate) fn into_report(self) -> BackupReport {
        let (Decided { plan, every_disk, not_backed_up, points_before, known_damage }, found) =
            (self.decided, self.found);
        let is_doubtful = |note: &Note| matches!(note, Note::ChangedUnseen(_));
        let (tpm, tpm_from) = found.identity.and_then(|kept| kept.tpm).unzip();
        let (method, stopped) = found.held.map(|held| (held.method, held.stopped)).unzip();
        BackupReport {
            archived_in_doubt: found.archived_to.is_some() && plan.notes.iter().any(is_doubtful),
            archived_bytes: 0,
            archived_to: found.archived_to,
            why: plan.why.to_string(),
            plan: PlanReport::from(&plan),
            recovered: found.recovered,
            method,
            stopped: stopped.unwrap_or_default(),
            trimmed: found.trimmed,
            os: found.os,
            file_systems: found.file_systems,
            tpm,
            tpm_from,
            definition: found.definition,
            disks: found.disks,
            every_disk: every_disk.iter().map(DiskPlan::outcome).collect(),
            not_in_backup: not_backed_up.iter().map(ToString::to_string).collect(),
            warnings: found.warnings,
            damaged: found.damaged.unwrap_or(known_damage),
            points_before,
            scratch_peak_bytes: found.scratch_peak_bytes,
            target_free_bytes: found.target_free_bytes,
            points: found.points.unwrap_or(points_before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_found_is_known_also_when_it_failed_and_the_last_word_counts() {
        let before = Found {
            warnings: vec!["first".into()],
            damaged: Some(vec!["a note".into()]),
            target_free_bytes: Some(7),
            points: Some(1),
            ..Found::default()
        };
        let (found, done): Step = step(|found| {
            found.warnings.push("second".into());
            found.damaged = Some(vec![]);
            Err(BackupError::Panicked { message: "half-way".into() })
        });
        assert!(done.is_err());
        let known = before.and(found);
        assert_eq!(known.warnings, ["first", "second"]);
        assert_eq!((known.damaged, known.target_free_bytes, known.points), (Some(vec![]), Some(7), Some(1)));
    }
}
