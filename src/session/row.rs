//! The row of `vm_backups` for one VM: drawn from its value.

use crate::catalog::{
    BackupMethod, BackupType, DiskBackup, DiskResult, ErrorCode, Failure, VmBackup, VmStatus,
};
use vmplan::Decision;
use vmreport::{BackupReport, FailureCode, GuestOs, Method, VmReport, VmResult};
use vmstream::text::size;

/// The row.
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
    let failure = Some(Failure { code: Some(code), message });
    VmBackup { failure, detail, ..VmBackup::new(&report.vm, VmStatus::Failed) }
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
    let incremental = matches!(backup.plan.decision, Decision::Incremental { .. });
    let (method, how) = match backup.method {
        Some(Method::Agent) => (BackupMethod::Agent, ", agent-assisted"),
        Some(Method::Paused) => (BackupMethod::Paused, ", VM paused (no agent)"),
        Some(Method::Offline) => (BackupMethod::Offline, ", offline copy"),
        Some(Method::StartedPaused) => (BackupMethod::Offline, ", offline, started paused"),
        Some(Method::AlreadyFrozen) => (BackupMethod::Unknown, ", frozen by somebody else"),
        Some(Method::AlreadyPaused | Method::Running) | None => (BackupMethod::Unknown, ""),
    };
    let archived = backup.archived_to.is_some();
    let backup_type = if incremental { BackupType::Incremental } else { BackupType::Full };
    let level = if incremental { "incremental" } else { "full" };
    // The words that the Bash program has for what an agent says.
    let os = backup.os.as_ref().map_or("", |info| match info.os {
        GuestOs::Windows => "windows",
        GuestOs::Other => "linux",
    });
    let size = size(backup.file_bytes());
    let moved = if archived { ", archived previous chain" } else { "" };
    VmBackup {
        os: os.to_owned(),
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
