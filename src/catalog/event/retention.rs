//! Rows of `retention_events`: what retention or a prune removed, or kept and why.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;

use super::row::{Row, count, number, path, text};
use crate::catalog::chain::Remover;
use crate::catalog::words::words;
use vmconfig::value::RotationPolicy;

words! {
    /// What retention or prune did.
    RetentionAction {
        Delete = "delete",
        /// Kept, for the reason given.
        Skip = "skip",
        /// Tried to delete, and failed.
        Error = "error",
    }
}

words! {
    /// What was to be deleted.
    RetentionTarget {
        /// A period of the current policy.
        Period = "period",
        /// A period of an earlier policy.
        OrphanPeriod = "orphan_period",
        /// A chain in an archive.
        ArchiveChain = "archive_chain",
    }
}

impl RetentionTarget {
    /// Which part deletes such a thing; users group by it.
    pub(super) fn remover_name(self) -> &'static str {
        match self {
            Self::Period => "_remove_period",
            Self::OrphanPeriod => "_remove_orphan_period",
            Self::ArchiveChain => "_remove_archive_chain",
        }
    }
}

words! {
    /// Why something was kept.
    PreserveReason {
        /// Somebody protected it.
        Protected = "protected",
        /// There is no other.
        LastPeriod = "last_period",
        /// Nobody can tell whether it can be restored.
        Doubtful = "doubtful",
        /// It was never replicated.
        Unreplicated = "unreplicated",
        /// It is not where backups are.
        UnsafePath = "safety_check_failed",
        /// It could not be deleted.
        RemoveFailed = "rm_failed",
        /// Its data does not tell its age.
        UnknownAge = "unknown_age",
        /// A backup or restore is at work there.
        InUse = "in_use",
        /// Something that stays needs it.
        Needed = "needed",
    }
}

/// Something that retention or prune did, or kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionEvent {
    pub action: RetentionAction,
    /// What it was about.
    pub target: RetentionTarget,
    pub by: Remover,
    pub vm: String,
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
