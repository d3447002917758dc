//! The events around the backup of one VM, and what is known of its chain: drawn from its value.

use jiff::tz::TimeZone;

use crate::catalog::{
    ArchiveReason, ArchiveTrigger, BackupType, ChainEvent, ChainEventKind, ChainHealth, ConfigEvent,
    ConfigEventKind, FileOperation, FileType, Operation, PeriodEvent, PeriodEventKind,
};
use vmplan::{Decision, RotationPolicy, Why};
use vmreport::{BackupReport, Destination, TpmKept, VmReport, VmResult};

/// A backup that left a restore point, and where that is.
#[derive(Clone, Copy)]
pub(super) struct Done<'a> {
    pub(super) vm: &'a VmReport,
    pub(super) backup: &'a BackupReport,
    pub(super) to: &'a Destination,
}

/// Its policy is another than at its last backup.
pub(super) fn policy_change(report: &VmReport) -> Option<ConfigEvent> {
    let (before, now) = (report.other_policy_before()?, report.policy);
    Some(ConfigEvent {
        previous: before.to_string(),
        applied_to: report.vm.clone(),
        vm: report.vm.clone(),
        triggered_by: "detect_policy_change".to_owned(),
        detail: format!("policy_changed:{before}->{now}"),
        ..ConfigEvent::new(ConfigEventKind::PolicyChange, "rotation_policy", now.as_str())
    })
}

/// What is known of the chain of a VM that failed. `None` when it has none.
pub(super) fn failed_chain(report: &VmReport) -> Option<ChainHealth<'_>> {
    let (chain, to) = (report.result.failure()?.chain?, report.destination.as_ref()?);
    Some(ChainHealth { points: chain.points, restorable: chain.restorable, ..health(report, to) })
}

/// That the chain of a VM that failed has lost points, as [`failed_chain`] found it.
pub(super) fn chain_broke(chain: &ChainHealth<'_>) -> Option<ChainEvent> {
    (chain.restorable < chain.points).then(|| ChainEvent {
        backup_dir: chain.folder.to_owned(),
        location: chain.folder.to_owned(),
        points: chain.points,
        ..ChainEvent::new(ChainEventKind::Broken, chain.vm, chain.period)
    })
}

impl<'a> Done<'a> {
    /// `None` when there is no new restore point.
    pub(super) fn of(vm: &'a VmReport) -> Option<Self> {
        let (VmResult::Ok { report: backup } | VmResult::Damaged { report: backup }) = &vm.result else {
            return None;
        };
        Some(Self { vm, backup, to: vm.destination.as_ref()? })
    }

    /// A chain begins, or a copy takes the place of one.
    fn begins(self) -> bool {
        !matches!(self.backup.plan.decision, Decision::Incremental { .. })
    }

    /// The previous chain was moved away.
    pub(super) fn archived(self) -> Option<(ChainEvent, FileOperation)> {
        let Self { vm, backup, to } = self;
        let archive = backup.archived_to.as_ref()?;
        let (reason, bytes) = (archive_reason(&backup.plan.why), backup.archived_bytes);
        let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let chain = ChainEvent {
            chain_id: name,
            backup_dir: to.dir.clone(),
            location: archive.clone(),
            points: backup.points_before as u64,
            bytes,
            reason: Some(reason),
            trigger: Some(ArchiveTrigger::NewChain),
            ..ChainEvent::new(ChainEventKind::Archived, &vm.vm, &to.period)
        };
        let file = FileOperation {
            to: archive.clone(),
            bytes,
            verification: "directory".to_owned(),
            reason: reason.word().to_owned(),
            triggered_by: "publish".to_owned(),
            ..FileOperation::new(Operation::Move, FileType::Directory, &vm.vm, &to.dir)
        };
        Some((chain, file))
    }

    /// A period begins, and the one before it ends.
    pub(super) fn periods(self) -> Vec<PeriodEvent> {
        let Self { vm, backup, to } = self;
        if !self.begins() || backup.points_before != 0 || vm.policy == RotationPolicy::Accumulate {
            return vec![];
        }
        let previous = match &backup.plan.why {
            Why::NewPeriod(previous) => previous.clone(),
            _ => to.previous_period.clone().unwrap_or_default(),
        };
        let folder = to.dir.with_file_name(&previous);
        let closed = (!previous.is_empty()).then(|| PeriodEvent {
            policy: Some(vm.policy),
            ..PeriodEvent::new(PeriodEventKind::Closed, &vm.vm, &previous, &folder)
        });
        let created = PeriodEvent {
            policy: Some(vm.policy),
            first: Some(vm.ended),
            chains: 1,
            points: backup.points as u64,
            previous,
            ..PeriodEvent::new(PeriodEventKind::Created, &vm.vm, &to.period, &to.dir)
        };
        closed.into_iter().chain([created]).collect()
    }

    /// A chain begins. It is named by local time.
    pub(super) fn chain_begins(self, zone: TimeZone) -> Option<ChainEvent> {
        let Self { vm, backup, to } = self;
        self.begins().then(|| ChainEvent {
            backup_dir: to.dir.clone(),
            location: to.dir.clone(),
            chain_id: vm.ended.to_zoned(zone).strftime("chain-%Y%m%d-%H%M%S").to_string(),
            first: Some(vm.ended),
            last: Some(vm.ended),
            points: backup.points as u64,
            bytes: backup.file_bytes(),
            source: Some(BackupType::Full),
            ..ChainEvent::new(ChainEventKind::Created, &vm.vm, &to.period)
        })
    }

    /// The VM's definition and the state of its TPM, where they were written.
    pub(super) fn small_files(self) -> Vec<FileOperation> {
        let Self { vm, backup, to } = self;
        let definition = backup.definition.as_ref().map(|file| FileOperation {
            bytes: file.bytes_and_mtime.map_or(0, |(bytes, _)| bytes),
            verification: file
                .bytes_and_mtime
                .map_or_else(String::new, |(bytes, mtime)| format!("size:{bytes}:mtime:{mtime}")),
            triggered_by: "keep_definition".to_owned(),
            ..FileOperation::new(Operation::Create, FileType::ConfigXml, &vm.vm, &file.path)
        });
        let tpm_from = backup.tpm_from.as_ref().filter(|_| backup.tpm == Some(TpmKept::Saved));
        let tpm = tpm_from.map(|from| FileOperation {
            to: to.dir.join("tpm-state"),
            verification: "directory".to_owned(),
            triggered_by: "save_tpm".to_owned(),
            ..FileOperation::new(Operation::Copy, FileType::TpmState, &vm.vm, from)
        });
        definition.into_iter().chain(tpm).collect()
    }

    /// The chain as it stands now.
    pub(super) fn chain(self) -> ChainHealth<'a> {
        let points = self.backup.points as u64;
        ChainHealth {
            points,
            restorable: points,
            first: self.begins().then_some(self.vm.ended),
            last: Some(self.vm.ended),
            ..health(self.vm, self.to)
        }
    }
}

fn health<'a>(report: &'a VmReport, to: &'a Destination) -> ChainHealth<'a> {
    let (vm, policy) = (report.vm.as_str(), report.policy);
    let (period, folder) = (to.period.as_str(), to.dir.as_path());
    ChainHealth { vm, period, folder, policy, points: 0, restorable: 0, first: None, last: None }
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
        Why::AfterCopy | Why::AfterCopyInDoubt(_) | Why::NoBitmaps | Why::DefinitionOnly => {
            ArchiveReason::CopyReplaced
        }
        Why::ShutOff | Why::ShutOffInDoubt(_) => ArchiveReason::OfflineChange,
        Why::ChainLimit(_) => ArchiveReason::AccumulateLimit,
        Why::FullDay(_) | Why::OtherCompression => ArchiveReason::ForcedFull,
        Why::LastTryFailed(_) => ArchiveReason::Retry,
    }
}
