//! Rows of `chain_events`: a chain began, was moved away, broke or was deleted.

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::types::Value;

use super::row::{Row, count, path, text, time};
use crate::catalog::vm_backup::BackupType;
use crate::catalog::words::words;

words! {
    /// What happened to a chain.
    ChainEventKind {
        Created = "chain_created",
        /// It was moved away, or its period is over.
        Archived = "chain_archived",
        /// It was found broken.
        Broken = "chain_broken",
        /// Retention deleted it.
        Deleted = "chain_deleted",
        /// Somebody deleted it by hand.
        Purged = "chain_purged",
    }
}

words! {
    /// Why a chain went to the archive.
    ArchiveReason {
        /// The VM has another rotation policy now.
        PolicyChange = "policy_change",
        /// Its period is over.
        PeriodBoundary = "period_boundary",
        /// libvirt no longer has its last checkpoint.
        CheckpointLost = "checkpoint_lost",
        /// A dirty bitmap is gone or not usable.
        BitmapLost = "bitmap_lost",
        /// Its files cannot be continued.
        ChainBroken = "broken_chain",
        /// A disk has another size.
        DiskResized = "disk_resized",
        /// Other disks, or disks of another format.
        DisksChanged = "disks_changed",
        /// An image was replaced underneath.
        DiskReplaced = "disk_replaced",
        /// A disk changed and nothing said so.
        ChangedUnseen = "changed_unseen",
        /// Another VM has the name now.
        OtherDomain = "other_domain",
        /// A copy of the shut-off VM was in the way of a chain.
        CopyReplaced = "copy_backup",
        /// The VM was shut off and has changed.
        OfflineChange = "offline_change",
        /// It reached the limit of an accumulating chain.
        AccumulateLimit = "accumulate_limit",
        /// The settings ask for a full backup.
        ForcedFull = "forced_full",
        /// A new attempt after one that failed.
        Retry = "retry",
    }
}

words! {
    /// Which part of a run moved a chain to the archive.
    ArchiveTrigger {
        PolicyChange = "policy_change",
        /// The beginning of a period.
        PeriodRotation = "period_rotation",
        /// A new chain in the same folder.
        NewChain = "archive_existing_checkpoint_chain",
    }
}

/// Something that happened to a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEvent {
    pub kind: ChainEventKind,
    pub vm: String,
    pub period: String,
    /// Its name: that of its archive folder, else `chain-YYYYMMDD-HHMMSS` of its beginning.
    pub chain_id: String,
    /// The period's folder.
    pub backup_dir: PathBuf,
    /// Where the chain is now, or was.
    pub location: PathBuf,
    /// Date of its first point.
    pub first: Option<Timestamp>,
    /// Date of its last point.
    pub last: Option<Timestamp>,
    pub points: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Why it was archived.
    pub reason: Option<ArchiveReason>,
    /// What moved it.
    pub trigger: Option<ArchiveTrigger>,
    /// What it began with.
    pub source: Option<BackupType>,
    /// Names of its restore points.
    pub point_names: Vec<String>,
}

impl ChainEvent {
    /// An event of which no more is known.
    pub fn new(kind: ChainEventKind, vm: &str, period: &str) -> Self {
        Self {
            kind,
            vm: vm.to_owned(),
            period: period.to_owned(),
            chain_id: String::new(),
            backup_dir: PathBuf::new(),
            location: PathBuf::new(),
            first: None,
            last: None,
            points: 0,
            bytes: 0,
            reason: None,
            trigger: None,
            source: None,
            point_names: vec![],
        }
    }
}

impl Row for ChainEvent {
    const TABLE: &'static str = "chain_events";

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("vm_name", text(&self.vm)),
            ("event_type", text(self.kind.word())),
            ("chain_id", text(&self.chain_id)),
            ("period_id", text(&self.period)),
            ("backup_dir", path(&self.backup_dir)),
            ("chain_location", path(&self.location)),
            ("chain_start_time", time(self.first)),
            ("chain_end_time", time(self.last)),
            ("checkpoint_count", count(self.points)),
            ("full_backup_file", text("")),
            ("total_chain_bytes", count(self.bytes)),
            ("archive_reason", text(self.reason.map_or("", ArchiveReason::word))),
            ("archive_trigger", text(self.trigger.map_or("", ArchiveTrigger::word))),
            ("source_backup_type", text(self.source.map_or("", BackupType::word))),
            ("covers_from", time(self.first)),
            ("covers_to", time(self.last)),
            ("restore_point_ids", text(&self.point_names.join(","))),
        ]
    }
}
