//! What became of the host's own configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What became of the host's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum HostConfigReport {
    /// There is a new version.
    Saved(SavedHostConfig),
    /// It is as the newest version has it.
    Unchanged(SavedHostConfig),
    /// It could not be saved.
    Failed { error: String },
    /// It is not saved at all: `HOST_CONFIG_BACKUP`.
    Off,
}

/// The newest version of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHostConfig {
    /// The newest version.
    pub file: PathBuf,
    /// Whether it was written now.
    pub is_new: bool,
    pub why: String,
    /// Its bytes, where it was written now.
    pub file_bytes: u64,
    /// Files, folders and links in it.
    pub entries: usize,
    /// What could not be had.
    pub left_out: Vec<String>,
    /// Older versions that went.
    pub removed: Vec<PathBuf>,
    /// What deserves a look.
    pub warnings: Vec<String>,
}
