//! Rows of `period_events`: a period began, ended or was deleted.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::Value;

use super::row::{Row, count, number, path, text, time};
use crate::catalog::words::words;
use vmconfig::value::RotationPolicy;

words! {
    /// What happened to a period.
    PeriodEventKind {
        /// It is over.
        Closed = "period_closed",
        Created = "period_created",
        Deleted = "period_deleted",
    }
}

/// Something that happened to a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodEvent {
    pub kind: PeriodEventKind,
    pub vm: String,
    pub period: String,
    pub policy: Option<RotationPolicy>,
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
