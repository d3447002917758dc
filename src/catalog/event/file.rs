//! Rows of `file_operations`: a file or folder was made, copied, moved or deleted.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;

use super::row::{Row, count, path, text};
use crate::catalog::words::words;

words! {
    /// What was done to a file or folder.
    Operation {
        Create = "create",
        Copy = "copy",
        Move = "move",
        Delete = "delete",
    }
}

words! {
    /// What kind of file.
    FileType {
        /// `chain-manifest.json`.
        Manifest = "manifest",
        /// A VM's definition.
        ConfigXml = "config_xml",
        /// A folder with all it holds.
        Directory = "directory",
        /// The folder of a VM's TPM.
        TpmState = "tpm_state",
        /// A file of it.
        Tpm = "tpm",
        /// Saved disk content.
        Backup = "backup",
        /// A checkpoint's definition.
        CheckpointXml = "checkpoint_xml",
        /// The host's own configuration.
        HostConfig = "host_config",
    }
}

/// Something that was done to a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOperation {
    pub operation: Operation,
    /// What kind of file.
    pub file_type: FileType,
    pub vm: String,
    pub from: PathBuf,
    /// Where it went.
    pub to: PathBuf,
    /// Its bytes: of a folder, all that it held.
    pub bytes: u64,
    /// What it can be compared with later: `size:N:mtime:EPOCH`, a checksum, `directory`.
    pub verification: String,
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
