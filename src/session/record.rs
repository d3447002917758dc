//! What a run did, into the database: one row for each VM, and the events around it.
//!
//! Must not live here: SQL (`catalog`), what is printed (`cli`).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::outcome::{VmOutcome, VmResult};
use crate::catalog::{
    ArchiveReason, ArchiveTrigger, BackupMethod, BackupType, Catalog, ChainEvent, ChainEventKind,
    ChainHealth, ConfigEvent, ConfigEventKind, DiskBackup, DiskResult, ErrorCode, Failure, FileOperation,
    FileType, Operation, PeriodEvent, PeriodEventKind, SessionId, Stamp, VmBackup, VmStatus, points_in,
};
use crate::engine::{BackupError, FileError, Method, Report, Trouble};
use vmconfig::value::RotationPolicy;
use vmhost::guest::GuestOs;
use vmhost::identity::TpmKept;
use vmplan::{Decision, Note, Why};
use vmstore::layout::ARCHIVES;
use vmstream::text::size;

/// Where a run is written down.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    /// The database.
    pub catalog: &'a Catalog,
    /// The run's row; `None` when there is none.
    pub session: Option<SessionId>,
}

/// The end of one VM's backup, with what is needed beside the outcome.
pub(super) struct VmEnd<'a> {
    pub(super) outcome: &'a VmOutcome,
    /// The VM's state when it began, in virsh's words.
    pub(super) state: &'static str,
    /// The log of this backup alone.
    pub(super) log_file: Option<PathBuf>,
    /// Its policy at its last backup.
    pub(super) policy_before: Option<RotationPolicy>,
    pub(super) at: Timestamp,
}

impl VmEnd<'_> {
    /// The policy of the last backup, where this one has another. A VM that is excluded now keeps what it has.
    fn other_policy_before(&self) -> Option<RotationPolicy> {
        let now = self.outcome.policy;
        self.policy_before.filter(|before| *before != now && now != RotationPolicy::Never)
    }
}

impl Records<'_> {
    /// The policy of a VM's last backup, as far as it is known.
    pub(super) fn policy_before(&self, vm: &str) -> Option<RotationPolicy> {
        self.catalog.last_success(vm).ok().flatten().and_then(|last| last.policy)
    }

    /// Writes down how the backup of one VM ended.
    pub(super) fn vm_end(&self, end: &VmEnd<'_>) {
        let by = Stamp { session: self.session, at: end.at };
        self.policy_change(end, by);
        if let VmResult::Done(report) = &end.outcome.result {
            if report.plan.decision != Decision::Skip {
                self.done(end, report, by);
            }
        }
        if let VmResult::Failed(error) = &end.outcome.result {
            self.chain_failed(end, error);
        }
        self.catalog.vm_backup(by, &row(end));
    }

    fn policy_change(&self, end: &VmEnd<'_>, by: Stamp) {
        let now = end.outcome.policy;
        let Some(before) = end.other_policy_before() else { return };
        let vm = end.outcome.domain.clone();
        let detail = format!("policy_changed:{before}->{now}");
        tracing::info!(vm, "its rotation policy was {before} at its last backup and is {now} now");
        let event = ConfigEvent {
            previous: before.to_string(),
            applied_to: vm.clone(),
            vm,
            detail,
            ..ConfigEvent::new(ConfigEventKind::PolicyChange, "BACKUP_ROTATION_POLICY", now.as_str())
        };
        self.catalog.event(by, &event);
    }

    fn done(&self, end: &VmEnd<'_>, report: &Report, by: Stamp) {
        let outcome = end.outcome;
        let Some(place) = &outcome.destination else { return };
        let (vm, period, dir) = (outcome.domain.as_str(), place.period.as_str(), place.dir.as_path());
        let begins = !matches!(report.plan.decision, Decision::Incremental { .. });
        if let Some(to) = &report.archived_to {
            self.archived(end, report, to, by);
        }
        if begins && report.points_before == 0 && outcome.policy != RotationPolicy::Accumulate {
            self.period_begins(end, report, by);
        }
        if begins {
            let event = ChainEvent {
                backup_dir: dir.to_owned(),
                location: dir.to_owned(),
                chain_id: chain_id(end.at),
                first: Some(end.at),
                last: Some(end.at),
                points: report.points as u64,
                bytes: report.file_bytes(),
                source: Some(BackupType::Full),
                ..ChainEvent::new(ChainEventKind::Created, vm, period)
            };
            self.catalog.event(by, &event);
        }
        self.small_files(vm, dir, report, by);
        let health = ChainHealth {
            points: report.points as u64,
            restorable: report.points as u64,
            first: begins.then_some(end.at),
            last: Some(end.at),
            ..health(outcome, period, dir)
        };
        self.catalog.chain_active(&health, end.at);
        let is_doubtful = |note: &Note| matches!(note, Note::ChangedUnseen(_));
        if report.archived_to.is_some() && report.plan.notes.iter().any(is_doubtful) {
            self.catalog.protect(vm, period, end.at);
        }
    }

    fn archived(&self, end: &VmEnd<'_>, report: &Report, to: &Path, by: Stamp) {
        let outcome = end.outcome;
        let Some(place) = &outcome.destination else { return };
        let (vm, period) = (outcome.domain.as_str(), place.period.as_str());
        let reason = archive_reason(&report.plan.why);
        let bytes = bytes_below(to).unwrap_or(0);
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.catalog.chain_archived(vm, period, to, bytes, end.at);
        let chain = ChainEvent {
            chain_id: name,
            backup_dir: place.dir.clone(),
            location: to.to_owned(),
            points: report.points_before as u64,
            bytes,
            reason: Some(reason),
            trigger: Some(ArchiveTrigger::NewChain),
            ..ChainEvent::new(ChainEventKind::Archived, vm, period)
        };
        self.catalog.event(by, &chain);
        let file = FileOperation {
            to: to.to_owned(),
            bytes,
            verification: "directory".to_owned(),
            reason: reason.word().to_owned(),
            triggered_by: "publish".to_owned(),
            ..FileOperation::new(Operation::Move, FileType::Directory, vm, &place.dir)
        };
        self.catalog.event(by, &file);
    }

    fn period_begins(&self, end: &VmEnd<'_>, report: &Report, by: Stamp) {
        let outcome = end.outcome;
        let Some(place) = &outcome.destination else { return };
        let previous = match &report.plan.why {
            Why::NewPeriod(previous) => previous.clone(),
            _ => place.previous.clone().unwrap_or_default(),
        };
        let vm = outcome.domain.as_str();
        if !previous.is_empty() {
            let folder = place.dir.with_file_name(&previous);
            let closed = PeriodEvent {
                policy: Some(outcome.policy),
                ..PeriodEvent::new(PeriodEventKind::Closed, vm, &previous, &folder)
            };
            self.catalog.event(by, &closed);
        }
        let created = PeriodEvent {
            policy: Some(outcome.policy),
            first: Some(end.at),
            chains: 1,
            points: report.points as u64,
            previous,
            ..PeriodEvent::new(PeriodEventKind::Created, vm, &place.period, &place.dir)
        };
        self.catalog.event(by, &created);
    }

    /// The VM's definition and the state of its TPM, where they were written.
    fn small_files(&self, vm: &str, dir: &Path, report: &Report, by: Stamp) {
        if let Some(file) = &report.definition {
            let about = fs::metadata(file).ok();
            let bytes = about.as_ref().map_or(0, fs::Metadata::len);
            let row = FileOperation {
                bytes,
                verification: about
                    .map_or_else(String::new, |about| format!("size:{bytes}:mtime:{}", about.mtime())),
                triggered_by: "keep_definition".to_owned(),
                ..FileOperation::new(Operation::Create, FileType::ConfigXml, vm, file)
            };
            self.catalog.event(by, &row);
        }
        if let (Some(from), Some(TpmKept::Saved)) = (&report.tpm_from, report.tpm) {
            let row = FileOperation {
                to: dir.join("tpm-state"),
                verification: "directory".to_owned(),
                triggered_by: "save_tpm".to_owned(),
                ..FileOperation::new(Operation::Copy, FileType::TpmState, vm, from)
            };
            self.catalog.event(by, &row);
        }
    }

    /// A chain that was there is as it was, and that is looked at: it may be why the backup failed.
    fn chain_failed(&self, end: &VmEnd<'_>, error: &BackupError) {
        let outcome = end.outcome;
        let Some(place) = &outcome.destination else { return };
        let on_disk = points_in(&place.dir);
        if on_disk.is_empty() {
            return;
        }
        let (points, error) = (on_disk.len() as u64, error.to_string());
        let restorable = on_disk.iter().filter(|point| point.restorable).count() as u64;
        let chain = ChainHealth { points, restorable, ..health(outcome, &place.period, &place.dir) };
        if restorable < points {
            self.catalog.chain_broken(&chain, &error, end.at);
        } else {
            self.catalog.chain_failed(&chain, &error, end.at);
        }
    }
}

fn health<'a>(outcome: &'a VmOutcome, period: &'a str, folder: &'a Path) -> ChainHealth<'a> {
    let (vm, policy) = (outcome.domain.as_str(), outcome.policy);
    ChainHealth { vm, period, folder, policy, points: 0, restorable: 0, first: None, last: None }
}

/// The name of a chain that begins.
fn chain_id(at: Timestamp) -> String {
    let local = at.to_zoned(jiff::tz::TimeZone::system());
    local.strftime("chain-%Y%m%d-%H%M%S").to_string()
}

fn row(end: &VmEnd<'_>) -> VmBackup {
    let outcome = end.outcome;
    let place = outcome.destination.as_ref();
    let vm = outcome.domain.as_str();
    let failed = |code, message: String| {
        let detail = format!("failed: {message}");
        VmBackup { failure: Some(Failure { code, message }), detail, ..VmBackup::new(vm, VmStatus::Failed) }
    };
    let row = match &outcome.result {
        VmResult::Done(report) => done_row(vm, report),
        VmResult::Excluded(_) => VmBackup {
            detail: format!("excluded by rotation policy (policy={})", outcome.policy),
            ..VmBackup::new(vm, VmStatus::Excluded)
        },
        VmResult::Failed(error @ BackupError::Lock(_)) => VmBackup {
            failure: Some(Failure { code: None, message: error.to_string() }),
            detail: "already in progress (lock exists)".to_owned(),
            ..VmBackup::new(vm, VmStatus::Skipped)
        },
        VmResult::Failed(error) => failed(Some(error_code(error)), error.to_string()),
        VmResult::NoFolder(error) => failed(Some(ErrorCode::FolderName), error.to_string()),
        VmResult::NotBegun => failed(Some(ErrorCode::Stopped), "the run was asked to stop".to_owned()),
    };
    let folder_bytes = place.and_then(|place| bytes_below(&place.dir).ok()).unwrap_or(0);
    let archives = place.and_then(|place| bytes_below(&place.dir.join(ARCHIVES)).ok()).unwrap_or(0);
    VmBackup {
        vm_state: end.state.to_owned(),
        policy: Some(outcome.policy),
        policy_before: end.other_policy_before(),
        log_file: end.log_file.clone(),
        took: outcome.took,
        backup_path: place.map(|place| place.dir.clone()),
        retries: outcome.tries.saturating_sub(1),
        folder_bytes,
        chain_bytes: folder_bytes.saturating_sub(archives),
        ..row
    }
}

fn done_row(vm: &str, report: &Report) -> VmBackup {
    let decision = &report.plan.decision;
    if *decision == Decision::Skip {
        return VmBackup {
            backup_type: BackupType::Unchanged,
            method: BackupMethod::Offline,
            restore_points: report.points as u64,
            restore_points_before: report.points_before as u64,
            failure: Some(Failure { code: None, message: "offline unchanged".to_owned() }),
            detail: "skipped: disks unchanged since last backup".to_owned(),
            ..VmBackup::new(vm, VmStatus::Skipped)
        };
    }
    let incremental = matches!(decision, Decision::Incremental { .. });
    let (method, how) = match report.method {
        Some(Method::Agent) => (BackupMethod::Agent, ", agent-assisted"),
        Some(Method::Paused) => (BackupMethod::Paused, ", VM paused (no agent)"),
        Some(Method::Offline) => (BackupMethod::Offline, ", offline copy"),
        Some(Method::StartedPaused) => (BackupMethod::Offline, ", offline, started paused"),
        Some(Method::AlreadyFrozen) => (BackupMethod::Unknown, ", frozen by somebody else"),
        Some(Method::AlreadyPaused | Method::Running) | None => (BackupMethod::Unknown, ""),
    };
    let archived = report.archived_to.is_some();
    let backup_type = if incremental { BackupType::Incremental } else { BackupType::Full };
    let level = if incremental { "incremental" } else { "full" };
    // The words that the Bash program has for what an agent says.
    let os = report.os.as_ref().map_or("", |info| match info.os {
        GuestOs::Windows => "windows",
        GuestOs::Other => "linux",
    });
    let size = size(report.file_bytes());
    let moved = if archived { ", archived previous chain" } else { "" };
    let copied = report.disks.iter().map(|disk| DiskBackup {
        disk: disk.target.clone(),
        result: DiskResult::Copied,
        file: disk.file.clone(),
        file_bytes: disk.file_bytes,
        data_bytes: disk.data_bytes,
        reason: String::new(),
    });
    let left_out = report.every_disk.iter().filter_map(|disk| Some((disk, disk.skipped()?)));
    let left_out = left_out.map(|(disk, reason)| DiskBackup {
        disk: disk.target.clone(),
        result: DiskResult::LeftOut,
        file: String::new(),
        file_bytes: 0,
        data_bytes: 0,
        reason: reason.to_string(),
    });
    VmBackup {
        os: os.to_owned(),
        backup_type,
        method,
        bytes_written: report.file_bytes(),
        restore_points: report.points as u64,
        restore_points_before: report.points_before as u64,
        archived_points: if archived { report.points_before as u64 } else { 0 },
        agent: method == BackupMethod::Agent,
        paused: method == BackupMethod::Paused,
        chain_archived: archived,
        detail: format!("{level} +{size} to checkpoint {}{how}{moved}; {}", report.points, report.plan.why),
        disks: copied.chain(left_out).collect(),
        ..VmBackup::new(vm, VmStatus::Success)
    }
}

fn error_code(error: &BackupError) -> ErrorCode {
    match error {
        BackupError::ForeignCheckpoints { .. } => ErrorCode::ForeignCheckpoints,
        BackupError::RecoveryOff { why: Why::CheckpointLost(_) | Why::BitmapLost(_), .. } => {
            ErrorCode::CheckpointStale
        }
        BackupError::RecoveryOff { .. } => ErrorCode::CheckpointBroken,
        BackupError::File(FileError { source, .. }) if source.kind() != io::ErrorKind::StorageFull => {
            ErrorCode::DirectoryFailed
        }
        BackupError::Pause(_) => ErrorCode::PauseFailed,
        BackupError::Libvirt(_) => ErrorCode::Hypervisor,
        BackupError::LeftBehind { error, .. } => error_code(error),
        _ => match error.trouble() {
            Trouble::Storage => ErrorCode::Storage,
            Trouble::Tool => ErrorCode::Tool,
            Trouble::Signal(_) => ErrorCode::Stopped,
            Trouble::Domain | Trouble::Locked => ErrorCode::BackupFailed,
        },
    }
}

fn archive_reason(why: &Why) -> ArchiveReason {
    match why {
        Why::WasElsewhere | Why::NewPolicy(_) => ArchiveReason::PolicyChange,
        Why::CheckpointLost(_) => ArchiveReason::CheckpointLost,
        Why::BitmapLost(_) => ArchiveReason::BitmapLost,
        Why::DiskPutBack(_) | Why::DiskExchanged { .. } => ArchiveReason::DiskReplaced,
        Why::ChangedUnseen { .. } => ArchiveReason::ChangedUnseen,
        Why::NewPeriod(_) => ArchiveReason::PeriodBoundary,
        Why::NoChain | Why::ChainBroken(_) | Why::ChainContinues | Why::Unchanged => {
            ArchiveReason::ChainBroken
        }
        Why::DiskResized(_) => ArchiveReason::DiskResized,
        Why::DiskConverted(_) | Why::OtherDisks => ArchiveReason::DisksChanged,
        Why::OtherVm(_) => ArchiveReason::OtherDomain,
        Why::AfterCopy => ArchiveReason::CopyReplaced,
        Why::ShutOff => ArchiveReason::OfflineChange,
        Why::ChainLimit(_) => ArchiveReason::AccumulateLimit,
        Why::FullDay(_) | Why::OtherCompression => ArchiveReason::ForcedFull,
        Why::LastTryFailed(_) => ArchiveReason::Retry,
    }
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
    use super::*;
    use vmhost::libvirt::{ErrorKind, LibvirtError};
    use vmplan::Why;

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
            assert_eq!(error_code(&error).word(), code, "{error}");
        }
    }
}
