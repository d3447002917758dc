//! The options of the program as one value: its help is drawn of it, and a man page and completions can be.
//!
//! Must not live here: which of them go together (`read`).

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, Command, value_parser};
use std::path::PathBuf;
use vmstream::text;

use crate::resolve::VmName;

const CREDIT: &str = "Copyright (c) 2026 the vmbackup authors. MIT licence.";

const TEMPLATE: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// What stands below the options.
const MORE: &str = "\
Examples:
  vmrestore --list
  vmrestore --list-restore-points web
  vmrestore --list-restore-points /mnt/rescued/web
  vmrestore --verify web,db
  vmrestore --verify --all --deep --backup-path /mnt/rescued

Exit codes: 0 done, 1 general, 2 configuration, 3 another program works on the
            VM, 4 storage, 5 a VM, its backup or its restore point,
            6 another program, 7 arguments, 8 something is not installed,
            130 Ctrl-C, 143 SIGTERM

More: docs/coming-from-bash.md";

/// The command line of vmrestore.
pub fn command() -> Command {
    Command::new("vmrestore")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Restores KVM/libvirt virtual machines from their backups")
        .before_help(format!("{}\n{CREDIT}", title()))
        .after_help(MORE)
        .override_usage("vmrestore <MODE> [OPTIONS]")
        .help_template(TEMPLATE)
        .term_width(text::WIDTH)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .next_help_heading("Modes")
        .args(modes())
        .next_help_heading("Options")
        .args(options())
        .arg(Arg::new("help").long("help").short('h').action(ArgAction::HelpShort).help("Print this text"))
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .next_help_heading("Where the backups are")
        .args(places())
}

fn title() -> String {
    format!("vmrestore {}: KVM/libvirt virtual machines back from their backups", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`.
pub(super) fn help() -> String {
    format!("{}\n", command().render_help().to_string().trim_end())
}

/// The text of `--version`: its first line is that of the Bash program.
pub(super) fn version() -> String {
    format!("vmrestore {}\n{CREDIT}\n", env!("CARGO_PKG_VERSION"))
}

/// Names of VMs, or one path.
fn vm_names(text: &str) -> Result<Vec<VmName>, String> {
    let names = VmName::parse(text);
    if names.is_empty() || text.starts_with('-') { Err("that names no VM".to_owned()) } else { Ok(names) }
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// What can be asked for, one at a time.
fn modes() -> [Arg; 4] {
    let of_vm = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).num_args(0..=1).value_parser(vm_names).help(help)
    };
    [
        flag("list", "Show the VMs there are backups of, with sizes, restore points and periods"),
        of_vm("list-restore-points", "VM", "Show the restore points of a VM, archived chains too"),
        of_vm("verify", "VM[,VM...]", "Prove that the newest backups of VMs are as they were written"),
        of_vm("dump", "VM", "Print what the streams of a VM's newest backup say of themselves"),
    ]
}

/// How that is done.
fn options() -> [Arg; 5] {
    [
        Arg::new("vm")
            .long("vm")
            .value_name("VM[,VM...]")
            .value_parser(vm_names)
            .help("The VMs, by name, or one by the path of its folder, which names the backup path too"),
        flag("all", "All VMs of the backup path"),
        Arg::new("period")
            .long("period")
            .value_name("ID")
            .value_parser(NonEmptyStringValueParser::new())
            .help("A period, such as 202611 [default: the one with the newest restore point]"),
        flag("deep", "With --verify: also put every disk together at every restore point"),
        flag("json", "The result, or the error, as one JSON value on standard output"),
    ]
}

/// Where they are looked for.
fn places() -> [Arg; 3] {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(NonEmptyStringValueParser::new()).help(help)
    };
    [
        Arg::new("backup-path")
            .long("backup-path")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help("The backup path, or the folder of one backup set [default: BACKUP_PATH of the configuration]"),
        text("config-instance", "NAME", "Read BACKUP_PATH from the configuration NAME; also VMBACKUP_INSTANCE [default: default]"),
        text("config-dir", "DIR", "Where the configurations are; also VMBACKUP_CONFIG_DIR [default: /opt/vmbackup/config]"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What packages install is made of the same value as the help.
    #[test]
    fn a_man_page_and_completions_come_of_the_same_command() {
        command().debug_assert();
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page).unwrap();
        let complete = |shell: clap_complete::Shell| {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "vmrestore", &mut script);
            String::from_utf8(script).unwrap()
        };
        let page = String::from_utf8(page).unwrap().replace("\\-", "-");
        let shells = [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish];
        for text in shells.map(complete).iter().chain([&page]) {
            for option in command().get_arguments().filter_map(Arg::get_long) {
                assert!(text.contains(option), "no {option} in {text}");
            }
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        assert!(text::fits(&help()), "{}", help());
    }
}
