//! How the backup of one VM ended, as the value that is written and drawn. All that has to be looked at for it is looked at here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::outcome::Outcome;
use crate::catalog::points_in;
use crate::engine::{BackupError, FileError, Report};
use vmplan::{Decision, Note, RotationPolicy, Why};
use vmreport::{
    BackupReport, ChainOnDisk, Destination, Failure, FailureCode, KeptFile, NextStep, PlanReport,
    RetentionReport, Trouble, VmReport, VmResult,
};
use vmstore::layout::ARCHIVES;

/// A VM whose turn has come, with what is known of it whatever follows.
pub(super) struct VmEnd {
    pub(super) domain: String,
    /// Its state when it began, in virsh's words.
    pub(super) state: &'static str,
    pub(super) policy: RotationPolicy,
    pub(super) policy_from: String,
    /// Its policy at its last backup.
    pub(super) policy_before: Option<RotationPolicy>,
    pub(super) destination: Option<Destination>,
    /// The log of this backup alone.
    pub(super) log_file: Option<PathBuf>,
}

impl VmEnd {
    /// What is told of it.
    pub(super) fn tell(
        self,
        outcome: Outcome,
        took: Duration,
        tries: u32,
        retention: Option<RetentionReport>,
        ended: Timestamp,
    ) -> VmReport {
        let dir = self.destination.as_ref().map(|destination| destination.dir.as_path());
        VmReport {
            result: result(outcome, dir),
            folder_bytes: dir.map_or(0, |dir| bytes_below(dir).unwrap_or(0)),
            archives_bytes: dir.map_or(0, |dir| bytes_below(&dir.join(ARCHIVES)).unwrap_or(0)),
            vm: self.domain,
            state: self.state.to_owned(),
            policy: self.policy,
            policy_from: self.policy_from,
            policy_before: self.policy_before,
            ended,
            took,
            tries,
            destination: self.destination,
            log_file: self.log_file,
            retention,
        }
    }
}

fn result(outcome: Outcome, dir: Option<&Path>) -> VmResult {
    let chain = || dir.and_then(chain_on_disk);
    let not_tried = |error: String, code| Failure {
        error,
        code,
        trouble: Trouble::Domain,
        next_step: NextStep::GiveUp,
        chain: None,
    };
    match outcome {
        Outcome::Done(report) => {
            let (skipped, damaged) = (report.plan.decision == Decision::Skip, !report.damaged.is_empty());
            let report = Box::new(backup(*report));
            match (skipped, damaged) {
                (true, _) => VmResult::Skipped { report },
                (false, true) => VmResult::Damaged { report },
                (false, false) => VmResult::Ok { report },
            }
        }
        Outcome::Failed(error) => VmResult::Failed(Failure { chain: chain(), ..failure(&error) }),
        Outcome::NoFolder(error) => VmResult::Failed(not_tried(error.to_string(), FailureCode::FolderName)),
        Outcome::Excluded(by) => VmResult::Excluded { why: format!("policy never ({by})") },
        Outcome::NotBegun => {
            let failure = not_tried("not begun".to_owned(), FailureCode::NotBegun);
            VmResult::Failed(Failure { next_step: NextStep::TryAgain, ..failure })
        }
    }
}

fn backup(report: Report) -> BackupReport {
    let is_doubtful = |note: &Note| matches!(note, Note::ChangedUnseen(_));
    let archived_bytes = report.archived_to.as_deref().map_or(0, |to| bytes_below(to).unwrap_or(0));
    BackupReport {
        archived_in_doubt: report.archived_to.is_some() && report.plan.notes.iter().any(is_doubtful),
        archived_bytes,
        why: report.plan.why.to_string(),
        plan: PlanReport::from(&report.plan),
        recovered: report.recovered,
        method: report.method,
        stopped: report.stopped,
        trimmed: report.trimmed,
        os: report.os,
        file_systems: report.file_systems,
        tpm: report.tpm,
        tpm_from: report.tpm_from,
        definition: report.definition.map(|path| {
            let about = fs::metadata(&path).ok();
            KeptFile { bytes_and_mtime: about.map(|about| (about.len(), about.mtime())), path }
        }),
        disks: report.disks,
        every_disk: report.every_disk.iter().map(|disk| disk.outcome()).collect(),
        not_in_backup: report.outside.iter().map(ToString::to_string).collect(),
        warnings: report.warnings,
        damaged: report.damaged,
        points_before: report.points_before,
        points: report.points,
        archived_to: report.archived_to,
    }
}

/// What is told of an error.
pub(super) fn failure(error: &BackupError) -> Failure {
    let code = match error {
        BackupError::Lock(_) => FailureCode::Locked,
        other => code(other),
    };
    Failure {
        error: error.to_string(),
        code,
        trouble: error.trouble(),
        next_step: error.next_step(),
        chain: None,
    }
}

fn code(error: &BackupError) -> FailureCode {
    match error {
        BackupError::ForeignCheckpoints { .. } => FailureCode::ForeignCheckpoints,
        BackupError::RecoveryOff { why: Why::CheckpointLost(_) | Why::BitmapLost(_), .. } => {
            FailureCode::CheckpointStale
        }
        BackupError::RecoveryOff { .. } => FailureCode::CheckpointBroken,
        BackupError::File(FileError { source, .. }) if source.kind() != io::ErrorKind::StorageFull => {
            FailureCode::Directory
        }
        BackupError::Pause(_) => FailureCode::Pause,
        BackupError::Libvirt(_) => FailureCode::Libvirt,
        BackupError::LeftBehind { error, .. } => code(error),
        _ => match error.trouble() {
            Trouble::Storage => FailureCode::Storage,
            Trouble::Tool => FailureCode::Tool,
            Trouble::Signal(_) => FailureCode::Stopped,
            Trouble::Domain | Trouble::Locked => FailureCode::Other,
        },
    }
}

/// The chain that is as it was, and is looked at: it may be why the backup failed.
fn chain_on_disk(dir: &Path) -> Option<ChainOnDisk> {
    let on_disk = points_in(dir);
    let restorable = on_disk.iter().filter(|point| point.restorable).count() as u64;
    (!on_disk.is_empty()).then_some(ChainOnDisk { points: on_disk.len() as u64, restorable })
}

/// The bytes of all files in a folder and below, as their lengths say. Links are not followed.
fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::row::error_code;
    use super::*;
    use vmhost::libvirt::{ErrorKind, LibvirtError};

    #[test]
    fn each_failure_has_the_code_that_people_ask_for() {
        let libvirt = || LibvirtError { doing: "x".into(), kind: ErrorKind::Busy, message: "x".into() };
        let off = |why| BackupError::RecoveryOff { domain: "web".into(), why, dir: "/b".into() };
        let file = |kind: io::ErrorKind| {
            FileError { doing: "create", path: "/b".into(), source: kind.into() }.into()
        };
        let broken = off(Why::ChainBroken("x".into()));
        let cases = [
            (off(Why::CheckpointLost("x".into())), "CHECKPOINT_STALE"),
            (off(Why::BitmapLost("x".into())), "CHECKPOINT_STALE"),
            (BackupError::LeftBehind { error: Box::new(broken), failed: vec![] }, "CHECKPOINT_BROKEN"),
            (file(io::ErrorKind::PermissionDenied), "DIRECTORY_PREP_FAILED"),
            (file(io::ErrorKind::StorageFull), "STORAGE"),
            (BackupError::Pause(libvirt()), "PAUSE_FAILED"),
            (BackupError::Libvirt(libvirt()), "HYPERVISOR"),
            (BackupError::JobRunning { domain: "web".into() }, "BACKUP_FAILED"),
        ];
        for (error, code) in cases {
            let of_database = error_code(failure(&error).code).map(|code| code.word());
            assert_eq!(of_database, Some(code), "{error}");
        }
    }
}
