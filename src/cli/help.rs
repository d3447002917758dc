//! The texts of `--version`, and of no mode at all.

/// Who made it.
pub(super) const CREDIT: &str = "Copyright (c) 2026 the vmbackup authors. MIT licence.";

pub(super) fn version() -> String {
    format!("vmbackup {}\n{CREDIT}\n", env!("CARGO_PKG_VERSION"))
}

/// When no mode is named.
pub(super) fn usage() -> String {
    format!(
        "vmbackup {}: backups of KVM/libvirt virtual machines
{CREDIT}

Usage:
  vmbackup --run                   back up every VM
  vmbackup --run --vm NAME         back up one VM
  vmbackup --prune list            show what is stored
  vmbackup --replicate-only        replicate what is stored
  vmbackup --cancel-replication    end a replication

  --dry-run                 say what would be done, and change nothing
  --config-instance NAME    use another configuration
  --help                    all modes and options
  --version                 the version
",
        env!("CARGO_PKG_VERSION")
    )
}
