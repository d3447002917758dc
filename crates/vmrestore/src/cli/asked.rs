//! What the command line asks for, as a value.

use std::path::PathBuf;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Show the VMs there are backups of.
    List,
}

/// A mode and what modifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// In place of the configuration's.
    pub(super) backup_path: Option<PathBuf>,
    pub(super) instance: String,
    pub(super) config_dir: PathBuf,
    /// The result as JSON on standard output.
    pub(super) json: bool,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Version,
    /// Nothing was named: a short help.
    Usage,
    Mode(Options),
}

/// Why the command line makes no sense, without the leading `Error: `; may have a second line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsageError(pub(super) String);
