//! The row of `vm_backups` for one VM: drawn from its value.

use crate::catalog::{
    BackupMethod, BackupType, DiskBackup, DiskResult, ErrorCode, Failure, VmBackup, VmStatus,
};
use vmplan::Decision;
use vmreport::{BackupReport, FailureCode, GuestOs, Method, VmReport, VmResult};
use vmstream::text::size;

pub(super) fn vm_backup(report: &VmReport) -> VmBackup {
    let row = match &report.result {
        VmResult::Ok { report: backup } | VmResult::Damaged { report: backup } => done(report, backup),
        VmResult::Skipped { report: backup } => skipped(report, backup),
        VmResult::Excluded { .. } => VmBackup {
            detail: format!("excluded by rotation policy (policy={})", report.policy),
            ..VmBackup::new(&report.vm, VmStatus::Excluded)
        },
        VmResult::Failed(failure) => failed(report, failure),
    };
    let row = match report.result.report() {
        Some(backup) if !backup.damaged.is_empty() => damaged(row, backup),
        _ => row,
    };
    VmBackup {
        vm_state: report.state.clone(),
        policy: Some(report.policy),
        policy_before: report.other_policy_before(),
        log_file: report.log_file.clone(),
        took: report.took,
        backup_path: report.destination.as_ref().map(|destination| destination.dir.clone()),
        retries: report.tries.saturating_sub(1),
        folder_bytes: report.folder_bytes,
        chain_bytes: report.folder_bytes.saturating_sub(report.archives_bytes),
        ..row
    }
}

fn failed(report: &VmReport, failure: &vmreport::Failure) -> VmBackup {
    let Some(code) = error_code(failure.code) else {
        return VmBackup {
            failure: Some(Failure { code: None, message: failure.error.clone() }),
            detail: "already in progress (lock exists)".to_owned(),
            ..VmBackup::new(&report.vm, VmStatus::Skipped)
        };
    };
    let message = match failure.code {
        FailureCode::NotBegun => "the run was asked to stop".to_owned(),
        _ => failure.error.clone(),
    };
    let detail = format!("failed: {message}");
    // What was found and done before it failed; the chain is as it was.
    let known = failure.report.as_deref();
    let on_disk = failure.chain.map_or(0, |chain| chain.points);
    let method = match known.and_then(|known| known.method) {
        None if report.state == "shut off" => BackupMethod::Offline,
        method => method_of(method),
    };
    VmBackup {
        failure: Some(Failure { code: Some(code), message }),
        detail,
        os: known.map_or("", os_of).to_owned(),
        backup_type: known.map_or(BackupType::NotApplicable, |known| type_of(&known.plan.decision)),
        method,
        restore_points_before: known.map_or(on_disk, |known| known.points_before as u64),
        agent: method == BackupMethod::Agent,
        paused: method == BackupMethod::Paused,
        ..VmBackup::new(&report.vm, VmStatus::Failed)
    }
}

/// What was taken, or was to be taken.
fn type_of(decision: &Decision) -> BackupType {
    match decision {
        Decision::Full { .. } | Decision::Copy { .. } => BackupType::Full,
        Decision::Incremental { .. } => BackupType::Incremental,
        Decision::Skip => BackupType::Unchanged,
        Decision::Refuse(_) => BackupType::NotApplicable,
    }
}

fn method_of(method: Option<Method>) -> BackupMethod {
    match method {
        Some(Method::Agent) => BackupMethod::Agent,
        Some(Method::Paused) => BackupMethod::Paused,
        Some(Method::Offline | Method::StartedPaused) => BackupMethod::Offline,
        Some(Method::AlreadyFrozen | Method::AlreadyPaused | Method::Running) | None => BackupMethod::Unknown,
    }
}

/// The words that the Bash program has for what an agent says.
fn os_of(backup: &BackupReport) -> &'static str {
    backup.os.as_ref().map_or("", |info| match info.os {
        GuestOs::Windows => "windows",
        GuestOs::Other => "linux",
    })
}

fn skipped(report: &VmReport, backup: &BackupReport) -> VmBackup {
    VmBackup {
        backup_type: BackupType::Unchanged,
        method: BackupMethod::Offline,
        restore_points: backup.points as u64,
        restore_points_before: backup.points_before as u64,
        failure: Some(Failure { code: None, message: "offline unchanged".to_owned() }),
        detail: "skipped: disks unchanged since last backup".to_owned(),
        ..VmBackup::new(&report.vm, VmStatus::Skipped)
    }
}

fn done(report: &VmReport, backup: &BackupReport) -> VmBackup {
    let (method, backup_type) = (method_of(backup.method), type_of(&backup.plan.decision));
    let how = match backup.method {
        Some(Method::Agent) => ", agent-assisted",
        Some(Method::Paused) => ", VM paused (no agent)",
        Some(Method::Offline) => ", offline copy",
        Some(Method::StartedPaused) => ", offline, started paused",
        Some(Method::AlreadyFrozen) => ", frozen by somebody else",
        Some(Method::AlreadyPaused | Method::Running) | None => "",
    };
    let archived = backup.archived_to.is_some();
    let level = match backup_type {
        _ if backup.disks.is_empty() => "definition",
        BackupType::Incremental => "incremental",
        _ => "full",
    };
    let size = size(backup.file_bytes());
    let moved = if archived { ", archived previous chain" } else { "" };
    VmBackup {
        os: os_of(backup).to_owned(),
        backup_type,
        method,
        bytes_written: backup.file_bytes(),
        restore_points: backup.points as u64,
        restore_points_before: backup.points_before as u64,
        archived_points: if archived { backup.points_before as u64 } else { 0 },
        agent: method == BackupMethod::Agent,
        paused: method == BackupMethod::Paused,
        chain_archived: archived,
        detail: format!("{level} +{size} to checkpoint {}{how}{moved}; {}", backup.points, backup.why),
        disks: disks(backup),
        ..VmBackup::new(&report.vm, VmStatus::Success)
    }
}

/// The same of a VM whose disk is damaged: it counts as failed everywhere, whatever restore point there is.
fn damaged(row: VmBackup, backup: &BackupReport) -> VmBackup {
    let message = backup.damaged.join("; ");
    VmBackup {
        status: VmStatus::Failed,
        detail: format!("{}; DAMAGED: {message}", row.detail),
        failure: Some(Failure { code: Some(ErrorCode::BackupFailed), message }),
        ..row
    }
}

fn disks(backup: &BackupReport) -> Vec<DiskBackup> {
    let copied = backup.disks.iter().map(|disk| DiskBackup {
        disk: disk.target.clone(),
        result: DiskResult::Copied,
        file: disk.file.clone(),
        file_bytes: disk.file_bytes,
        data_bytes: disk.data_bytes,
        reason: String::new(),
    });
    let left_out = backup.every_disk.iter().filter(|disk| disk.result == vmreport::DiskResult::Skipped);
    let left_out = left_out.map(|disk| DiskBackup {
        disk: disk.disk.clone(),
        result: DiskResult::LeftOut,
        file: String::new(),
        file_bytes: 0,
        data_bytes: 0,
        reason: disk.detail.clone(),
    });
    copied.chain(left_out).collect()
}

/// The word for a failure. `None` for what counts as skipped there: somebody else is at it.
pub(super) fn error_code(code: FailureCode) -> Option<ErrorCode> {
    Some(match code {
        FailureCode::Locked => return None,
        FailureCode::ForeignCheckpoints => ErrorCode::ForeignCheckpoints,
        FailureCode::CheckpointStale => ErrorCode::CheckpointStale,
        FailureCode::CheckpointBroken => ErrorCode::CheckpointBroken,
        FailureCode::Directory => ErrorCode::DirectoryFailed,
        FailureCode::Pause => ErrorCode::PauseFailed,
        FailureCode::Libvirt => ErrorCode::Hypervisor,
        FailureCode::Storage => ErrorCode::Storage,
        FailureCode::Tool => ErrorCode::Tool,
        FailureCode::FolderName => ErrorCode::FolderName,
        FailureCode::Stopped | FailureCode::NotBegun => ErrorCode::Stopped,
        FailureCode::Other => ErrorCode::BackupFailed,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use vmplan::{RotationPolicy, Why};
    use vmreport::{ChainOnDisk, NextStep, PlanReport, Trouble};

    fn backup(decision: Decision, method: Option<Method>) -> BackupReport {
        let (drop_checkpoints, repairs, notes) = (vec![], vec![], vec![]);
        let plan =
            PlanReport { decision, why: Why::ChainContinues, start: false, drop_checkpoints, repairs, notes };
        BackupReport { method, points_before: 3, points: 3, ..BackupReport::of_plan(plan) }
    }

    fn failed_row(state: &str, known: Option<BackupReport>) -> VmBackup {
        let failure = vmreport::Failure {
            error: "no space".into(),
            code: FailureCode::Storage,
            trouble: Trouble::Storage,
            next_step: NextStep::GiveUp,
            chain: Some(ChainOnDisk { points: 2, restorable: 2 }),
            report: known.map(Box::new),
        };
        vm_backup(&VmReport {
            vm: "web".into(),
            state: state.into(),
            policy: RotationPolicy::Monthly,
            policy_from: String::new(),
            policy_before: None,
            ended: jiff::Timestamp::UNIX_EPOCH,
            took: Duration::ZERO,
            tries: 1,
            destination: None,
            folder_bytes: 0,
            archives_bytes: 0,
            log_file: None,
            retention: None,
            result: VmResult::Failed(failure),
        })
    }

    #[test]
    fn a_backup_that_failed_has_what_was_known_by_then() {
        let name = |number: u32| format!("virtnbdbackup.{number}").parse().expect("a name");
        let increment = Decision::Incremental { parent: name(2), name: name(3) };
        let (full, copy) = (Decision::Full { archive: false }, Decision::Copy { archive: false });
        let cases = [
            ("running", Some((increment, Some(Method::Agent))), "auto agent 3 true false"),
            ("running", Some((full.clone(), Some(Method::Paused))), "full paused 3 false true"),
            ("running", Some((full, None)), "full unknown 3 false false"),
            ("shut off", Some((copy, None)), "full offline 3 false false"),
            ("shut off", None, "n/a offline 2 false false"),
            ("running", None, "n/a unknown 2 false false"),
        ];
        for (state, known, want) in cases {
            let row = failed_row(state, known.map(|(decision, method)| backup(decision, method)));
            let VmBackup { backup_type, method, restore_points_before, agent, paused, .. } = row;
            assert_eq!(format!("{backup_type} {method} {restore_points_before} {agent} {paused}"), want);
        }
    }
}
