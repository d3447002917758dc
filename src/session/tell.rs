//! How the backup of one VM ended, as the value that is written and drawn. All that has to be looked at for it is looked at here.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::folder_bytes::FolderBytes;
use super::outcome::Outcome;
use crate::catalog::points_in;
use crate::engine::snapshot::SnapshotError;
use crate::engine::{BackupError, FailedBackup, FileError};
use vmplan::{Decision, RotationPolicy, Why};
use vmreport::{
    ChainOnDisk, Destination, Failure, FailureCode, NextStep, RetentionReport, Trouble, VmReport, VmResult,
};

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
        let bytes = dir.map(FolderBytes::of).unwrap_or_default();
        VmReport {
            result: result(outcome, dir, &bytes),
            folder_bytes: bytes.all(),
            archives_bytes: bytes.archives(),
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

fn result(outcome: Outcome, dir: Option<&Path>, bytes: &FolderBytes) -> VmResult {
    let chain = || dir.and_then(chain_on_disk);
    let not_tried = |error: String, code| Failure {
        error,
        code,
        trouble: Trouble::Domain,
        next_step: NextStep::GiveUp,
        chain: None,
        report: None,
    };
    match outcome {
        Outcome::Done(mut report) => {
            report.archived_bytes = report.archived_to.as_deref().map_or(0, |to| bytes.archive(to));
            let (skipped, damaged) = (report.plan.decision == Decision::Skip, !report.damaged.is_empty());
            match (skipped, damaged) {
                (true, _) => VmResult::Skipped { report },
                (false, true) => VmResult::Damaged { report },
                (false, false) => VmResult::Ok { report },
            }
        }
        Outcome::Failed(FailedBackup { error, known: report }) => {
            VmResult::Failed(Failure { chain: chain(), report, ..failure(&error) })
        }
        Outcome::NoFolder(error) => VmResult::Failed(not_tried(error.to_string(), FailureCode::FolderName)),
        Outcome::Excluded(by) => VmResult::Excluded { why: format!("policy never ({by})") },
        Outcome::NotBegun => {
            let failure = not_tried("not begun".to_owned(), FailureCode::NotBegun);
            VmResult::Failed(Failure { next_step: NextStep::TryAgain, ..failure })
        }
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
        report: None,
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
        BackupError::Snapshot(SnapshotError::Pause(_)) => FailureCode::Pause,
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

#[cfg(test)]
mod tests {
    use super::super::row::error_code;
    use super::*;
    use crate::engine::Changed;
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
            (SnapshotError::Pause(libvirt()).into(), "PAUSE_FAILED"),
            (BackupError::Libvirt(libvirt()), "HYPERVISOR"),
            (Changed { domain: "web".into(), what: "x".into() }.into(), "BACKUP_FAILED"),
        ];
        for (error, code) in cases {
            let of_database = error_code(failure(&error).code).map(|code| code.word());
            assert_eq!(of_database, Some(code), "{error}");
        }
    }
}
