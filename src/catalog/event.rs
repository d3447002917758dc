//! Rows of the five event tables.
//!
//! Text that is not known is empty there, not NULL: what people ask for compares with ''.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::handle::Catalog;
use super::stamp::{Stamp, utc};
use super::vm_backup::integer;
use super::words::{
    ArchiveReason, ArchiveTrigger, BackupType, ChainEventKind, ConfigEventKind, FileType, Operation,
    PeriodEventKind, PreserveReason, Remover, RetentionAction, RetentionTarget,
};
use vmconfig::value::RotationPolicy;

/// A row of its own: its table, its columns and their values.
mod row {
    pub trait Row {
        const TABLE: &'static str;
        /// Without those that every event has.
        fn columns(&self) -> Vec<(&'static str, rusqlite::types::Value)>;
    }
}
use row::Row;

/// Something that happened, for one of the event tables.
pub trait EventRow: Row {}
impl<T: Row> EventRow for T {}

impl Catalog {
    /// Writes down that something happened.
    pub fn event<E: EventRow>(&self, by: Stamp, event: &E) {
        let mut columns = event.columns();
        columns.push(("session_id", by.session.map_or(Value::Null, |id| id.0.into())));
        columns.push(("timestamp", utc(by.at).into()));
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", E::TABLE, names.join(", "));
        let values = columns.iter().map(|(_, value)| value);
        self.write(|transaction| transaction.prepare_cached(&sql)?.execute(params_from_iter(values)));
    }
}

/// Something that happened to a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEvent {
    /// What.
    pub kind: ChainEventKind,
    /// The VM's name.
    pub vm: String,
    /// Its period.
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
    /// Restore points.
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

/// Something that happened to a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEvent {
    /// What.
    pub kind: ConfigEventKind,
    /// The file it stands in.
    pub source: PathBuf,
    /// The VM, for a setting of one VM.
    pub vm: String,
    /// Its name.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// The value before.
    pub previous: String,
    /// What it counts for: `all_vms`, a VM, a destination.
    pub applied_to: String,
    /// Which part of the program.
    pub triggered_by: String,
    /// One line for people.
    pub detail: String,
}

impl ConfigEvent {
    /// An event of which no more is known.
    pub fn new(kind: ConfigEventKind, setting: &str, value: &str) -> Self {
        let empty = String::new;
        Self {
            kind,
            source: PathBuf::new(),
            vm: empty(),
            setting: setting.to_owned(),
            value: value.to_owned(),
            previous: empty(),
            applied_to: empty(),
            triggered_by: empty(),
            detail: empty(),
        }
    }
}

impl Row for ConfigEvent {
    const TABLE: &'static str = "config_events";

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("event_type", text(self.kind.word())),
            ("config_source", path(&self.source)),
            ("vm_name", text(&self.vm)),
            ("setting_name", text(&self.setting)),
            ("setting_value", text(&self.value)),
            ("previous_value", text(&self.previous)),
            ("applied_to", text(&self.applied_to)),
            ("triggered_by", text(&self.triggered_by)),
            ("detail", text(&self.detail)),
        ]
    }
}

/// Something that was done to a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOperation {
    /// What.
    pub operation: Operation,
    /// What kind of file.
    pub file_type: FileType,
    /// The VM's name.
    pub vm: String,
    /// The file.
    pub from: PathBuf,
    /// Where it went.
    pub to: PathBuf,
    /// Its bytes: of a folder, all that it held.
    pub bytes: u64,
    /// What it can be compared with later: `size:N:mtime:EPOCH`, a checksum, `directory`.
    pub verification: String,
    /// Why.
    pub reason: String,
    /// Which part of the program.
    pub triggered_by: String,
    /// What went wrong, if anything.
    pub error: Option<String>,
}

impl FileOperation {
    /// An operation that went well, of which no more is known.
    pub fn new(operation: Operation, file_type: FileType, vm: &str, from: &Path) -> Self {
        let empty = String::new;
        Self {
            operation,
            file_type,
            vm: vm.to_owned(),
            from: from.to_owned(),
            to: PathBuf::new(),
            bytes: 0,
            verification: empty(),
            reason: empty(),
            triggered_by: empty(),
            error: None,
        }
    }
}

impl Row for FileOperation {
    const TABLE: &'static str = "file_operations";

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("operation", text(self.operation.word())),
            ("vm_name", text(&self.vm)),
            ("source_path", path(&self.from)),
            ("dest_path", path(&self.to)),
            ("file_type", text(self.file_type.word())),
            ("file_size_bytes", count(self.bytes)),
            ("verification_data", text(&self.verification)),
            ("reason", text(&self.reason)),
            ("triggered_by", text(&self.triggered_by)),
            ("success", self.error.is_none().into()),
            ("error_message", text(self.error.as_deref().unwrap_or_default())),
        ]
    }
}

/// Something that happened to a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodEvent {
    /// What.
    pub kind: PeriodEventKind,
    /// The VM's name.
    pub vm: String,
    /// The period.
    pub period: String,
    /// Its policy.
    pub policy: Option<RotationPolicy>,
    /// Its folder.
    pub folder: PathBuf,
    /// Date of its first point.
    pub first: Option<Timestamp>,
    /// Date of its last point.
    pub last: Option<Timestamp>,
    /// Chains in it, archived ones too.
    pub chains: u64,
    /// Restore points of all of them.
    pub points: u64,
    /// Bytes of its folder.
    pub bytes: u64,
    /// The period before.
    pub previous: String,
    /// Periods of the VM that are kept.
    pub remaining: Option<u64>,
}

impl PeriodEvent {
    /// An event of which no more is known.
    pub fn new(kind: PeriodEventKind, vm: &str, period: &str, folder: &Path) -> Self {
        Self {
            kind,
            vm: vm.to_owned(),
            period: period.to_owned(),
            policy: None,
            folder: folder.to_owned(),
            first: None,
            last: None,
            chains: 0,
            points: 0,
            bytes: 0,
            previous: String::new(),
            remaining: None,
        }
    }
}

impl Row for PeriodEvent {
    const TABLE: &'static str = "period_events";

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("vm_name", text(&self.vm)),
            ("event_type", text(self.kind.word())),
            ("period_id", text(&self.period)),
            ("rotation_policy", text(self.policy.map_or("", RotationPolicy::as_str))),
            ("period_dir", path(&self.folder)),
            ("period_start", time(self.first)),
            ("period_end", time(self.last)),
            ("chains_count", count(self.chains)),
            ("total_restore_points", count(self.points)),
            ("total_bytes", count(self.bytes)),
            ("previous_period", text(&self.previous)),
            ("archive_location", text("")),
            ("retention_remaining", number(self.remaining)),
        ]
    }
}

/// Something that retention or prune did, or kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionEvent {
    /// What.
    pub action: RetentionAction,
    /// What it was about.
    pub target: RetentionTarget,
    /// Who.
    pub by: Remover,
    /// The VM's name.
    pub vm: String,
    /// The folder.
    pub path: PathBuf,
    /// The period it is, or is in.
    pub period: String,
    /// The policy it was made under.
    pub policy: Option<RotationPolicy>,
    /// How many periods the settings keep; for an earlier policy's, the age in days at which they go.
    pub limit: Option<u64>,
    /// How many periods there were.
    pub current: Option<u64>,
    /// Whole days since its last restore point.
    pub age_days: Option<u64>,
    /// Bytes that are free now, or would be.
    pub freed_bytes: u64,
    /// Why it was kept.
    pub kept: Option<PreserveReason>,
    /// False for what was only planned, or failed.
    pub done: bool,
}

impl RetentionEvent {
    /// An event of which no more is known. Taken for done unless it is an error.
    pub fn new(
        action: RetentionAction,
        target: RetentionTarget,
        by: Remover,
        (vm, period): (&str, &str),
        path: &Path,
    ) -> Self {
        Self {
            action,
            target,
            by,
            vm: vm.to_owned(),
            path: path.to_owned(),
            period: period.to_owned(),
            policy: None,
            limit: None,
            current: None,
            age_days: None,
            freed_bytes: 0,
            kept: None,
            done: action != RetentionAction::Error,
        }
    }
}

impl Row for RetentionEvent {
    const TABLE: &'static str = "retention_events";

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("vm_name", text(&self.vm)),
            ("action", text(self.action.word())),
            ("target_type", text(self.target.word())),
            ("target_path", path(&self.path)),
            ("target_period", text(&self.period)),
            ("rotation_policy", text(self.policy.map_or("", RotationPolicy::as_str))),
            ("retention_limit", number(self.limit)),
            ("current_count", number(self.current)),
            ("age_days", number(self.age_days)),
            ("freed_bytes", count(self.freed_bytes)),
            ("preserve_reason", text(self.kept.map_or("", PreserveReason::word))),
            ("triggered_by", text(self.target.remover_name())),
            ("success", self.done.into()),
            ("action_source", text(self.by.word())),
        ]
    }
}

fn text(text: &str) -> Value {
    text.to_owned().into()
}

fn path(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

fn time(at: Option<Timestamp>) -> Value {
    at.map_or(String::new(), utc).into()
}

fn count(count: u64) -> Value {
    integer(count).into()
}

fn number(number: Option<u64>) -> Value {
    number.map_or(Value::Null, count)
}
