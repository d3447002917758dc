//! What the command line asks for, as a value.

use std::path::PathBuf;

use vmconfig::value::MaxAge;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Mode {
    /// Back up.
    Run,
    /// Delete backups, or list them. `None` when no target was named.
    Prune(Option<String>),
    /// Replicate without a backup.
    ReplicateOnly(Scope),
    /// Ask a replication that is under way to end.
    CancelReplication,
    /// Tell how each VM stands.
    Status,
    /// Look whether backups can work.
    Check,
    /// Write `vmbackup.toml` from the Bash files.
    MigrateConfig,
    /// Make the tree at the backup path this host's.
    Init,
}

/// Which replications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Scope {
    Local,
    Cloud,
    Both,
}

impl Scope {
    pub(in crate::cli) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Both => "both",
        }
    }
}

/// A mode and what modifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Arguments {
    pub(in crate::cli) mode: Mode,
    /// Only these VMs; may be a list with commas.
    pub(in crate::cli) vm: Option<String>,
    /// Change nothing.
    pub(in crate::cli) dry_run: bool,
    /// The result as JSON on standard output.
    pub(in crate::cli) json: bool,
    /// Show the settings too.
    pub(in crate::cli) settings: bool,
    /// The age from which on a restore point is too old, in place of the configuration's.
    pub(in crate::cli) max_age: Option<MaxAge>,
    /// Do not ask before deleting, or before taking a tree.
    pub(in crate::cli) yes: bool,
    pub(in crate::cli) instance: String,
    pub(in crate::cli) config_dir: PathBuf,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Asked {
    Help,
    Version,
    /// No mode was named: a short help.
    Usage,
    Mode(Arguments),
}

/// Why the command line makes no sense, without the leading `Error: `; may have a second line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct UsageError(pub(in crate::cli) String);
