//! Rows of `config_events`: a setting was read, or is another than before.

use std::path::PathBuf;

use rusqlite::types::Value;

use super::row::{Row, path, text};
use crate::catalog::words::words;

words! {
    /// What happened to a setting.
    ConfigEventKind {
        /// It was read.
        Loaded = "config_loaded",
        /// It differs from the last session's.
        Changed = "config_changed",
        Removed = "config_removed",
        /// A VM's rotation policy differs from the last backup's.
        PolicyChange = "policy_change",
        /// A manifest was made anew.
        ManifestRebuilt = "manifest_rebuilt",
        /// The state folder was saved.
        StateBackup = "state_backup",
    }
}

/// Something that happened to a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEvent {
    pub kind: ConfigEventKind,
    /// The file it stands in.
    pub source: PathBuf,
    /// The VM, for a setting of one VM.
    pub vm: String,
    pub setting: String,
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
