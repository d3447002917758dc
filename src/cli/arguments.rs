//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Backs up KVM/libvirt virtual machines: exact full and incremental backups that survive any interruption.
#[derive(Debug, Parser)]
#[command(name = "vmbackup", version, disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Back up every VM of this host
    #[arg(long)]
    pub(super) run: bool,

    /// Only these VMs, separated by commas
    #[arg(long, value_name = "NAME[,NAME]", requires = "run")]
    pub(super) vm: Vec<String>,

    /// Say what would be done, and change nothing
    #[arg(long, requires = "run")]
    pub(super) dry_run: bool,

    /// Print the result as JSON on standard output
    #[arg(long, requires = "run")]
    pub(super) json: bool,

    /// Configuration to use: a folder in the configuration directory
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) config_instance: String,

    /// Where the configurations are
    #[arg(long, value_name = "DIR", env = "VMBACKUP_CONFIG_DIR", default_value = "/opt/vmbackup/config")]
    pub(super) config_dir: PathBuf,
}
