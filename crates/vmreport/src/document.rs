//! What `--json` prints, whatever was asked: one value with the same members at its head.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

/// One answer of the program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document<T> {
    /// Which value it is, and of which version: `vmbackup/NAME/1`. Members may be added to one; none goes or changes its meaning
    /// without a new number.
    pub schema: &'static str,
    #[serde(flatten)]
    pub call: Call,
    /// What was asked for.
    #[serde(flatten)]
    pub content: T,
}

/// The call of the program that is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Version of the program.
    pub version: String,
    /// The name of the configuration; `None` when it did not come to that.
    pub instance: Option<String>,
    pub began: Timestamp,
    pub ended: Timestamp,
    /// As the process ends.
    pub exit_code: u8,
    /// The number in the database of the session that this was; `None` when it was none, or there is no database.
    pub session_id: Option<i64>,
    /// The log of all sessions, where this call has written to it.
    pub log_file: Option<PathBuf>,
    /// What deserves a look and is about no VM.
    pub warnings: Vec<String>,
}

/// Why what was asked for was not done: `vmbackup/error/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The exit code as a word.
    pub code: &'static str,
    /// What happened to what, and why.
    pub message: String,
    /// What to do, where it can be told apart. The message says it too.
    pub fix: Option<String>,
}

impl Refusal {
    /// The name of its schema.
    pub const SCHEMA: &str = "vmbackup/error/1";
}
