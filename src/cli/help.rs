//! The texts of `--help`, `--version`, and of no mode at all.

/// Who made it.
const CREDIT: &str = "Copyright (c) 2026 the vmbackup authors. MIT licence.";

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

pub(super) fn help() -> String {
    format!(
        "vmbackup {}: exact full and incremental backups of KVM/libvirt virtual machines
{CREDIT}

Usage: vmbackup <MODE> [OPTIONS]

  vmbackup --run
  vmbackup --run --vm web,db --dry-run
  vmbackup --prune list
  vmbackup --replicate-only local
  vmbackup --status

GENERAL
  --status [--vm NAME]       last success, next period, chain, size and health of each VM
  --check [--vm NAME]        whether backups can work here, and what to do where they cannot
  --migrate-config           write vmbackup.toml from the Bash files of the configuration
  --init                     make BACKUP_PATH this host's: a new disk, a replica, what another host wrote to
  --dry-run                  say what would be done, and change nothing
  --json                     results as JSON on standard output: --run, --prune, --status, --check
  -h, --help                 this text
  --version                  the version

BACKUP
  --run                      back up every VM: in full or what changed, as its policy says
  --vm NAME[,NAME...]        only these VMs

PRUNE
  --prune list               show what is stored, with the arguments that delete it
  --prune archives           delete the archived chains of all VMs, or of the one named with --vm
  --prune archives:PERIOD    delete the archived chains of one period of a VM
  --prune chain:NAME         delete one archived chain of a VM
  --prune period:ID          delete one period of a VM
  --prune all                delete everything of a VM
  --vm NAME                  which VM; one name. Not needed for list and archives
  -y, --yes                  do not ask before deleting; with --init: before taking

REPLICATE-ONLY
  --replicate-only [SCOPE]   replicate without a backup: local, cloud or both (the default)

SIGNAL
  --cancel-replication       ask a replication that is under way to end
  Ctrl-C or SIGTERM          end in order: guests run on, jobs end, nothing half-done stays.
                             A second one ends at once, and a guard process sets the guests free

CONFIG INSTANCES
  --config-instance NAME     use the configuration NAME, a folder in the configuration directory;
                             also VMBACKUP_INSTANCE. Without it: default
  --config-dir DIR           where the configurations are; also VMBACKUP_CONFIG_DIR.
                             Without it: /opt/vmbackup/config

EXAMPLES
  vmbackup --check                                  look before the first backup
  vmbackup --run --config-instance nightly          another configuration
  vmbackup --prune period:202608 --vm web --yes     delete a month, without a question

Exit codes: 0 done, 1 general, 2 configuration, 3 another session or host, 4 storage, 5 a VM, 6 another program,
7 arguments, 8 something is not installed, 130 Ctrl-C, 143 SIGTERM. More: docs/operations.md
",
        env!("CARGO_PKG_VERSION")
    )
}
