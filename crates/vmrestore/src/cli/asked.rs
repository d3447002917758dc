//! What the command line asks for, as a value.

use std::path::PathBuf;

use crate::resolve::VmName;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Show the VMs there are backups of.
    List,
    /// Show the restore points of one VM.
    Points(VmName),
    /// Prove that backups are as they were written.
    Verify { vms: Vms, deep: bool },
    /// Print what the streams of one VM say of themselves.
    Dump(VmName),
}

/// Whose backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vms {
    /// Those of every VM in the backup path.
    All,
    Named(Vec<VmName>),
}

/// A mode and what modifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// The period, in place of the newest with a restore point.
    pub(super) period: Option<String>,
    /// In place of the configuration's: as it was named, or by the path of a VM.
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
