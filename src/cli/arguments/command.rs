//! The options of the program as one value: its help is drawn of it, and a man page and completions can be.
//!
//! Must not live here: which of them go together (`rules`).

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, Command, value_parser};

use super::asked::Scope;
use crate::cli::help::CREDIT;
use vmconfig::value::{MaxAge, Value};
use vmstream::text;

const TEMPLATE: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// What stands below the options.
const MORE: &str = "\
Targets of --prune:
  list               show what is stored, with the arguments that delete it
  archives           delete the archived chains of all VMs, or of the one
                     named with --vm
  archives:PERIOD    delete the archived chains of one period of a VM
  chain:NAME         delete one archived chain of a VM
  period:ID          delete one period of a VM
  all                delete everything of a VM

Examples:
  vmbackup --check                            look before the first backup
  vmbackup --run
  vmbackup --run --vm web,db --dry-run
  vmbackup --run --config-instance nightly    another configuration
  vmbackup --prune list
  vmbackup --prune period:202608 --vm web -y  delete a month, unasked
  vmbackup --replicate-only local

Signals: Ctrl-C or SIGTERM ends in order: guests run on, jobs end, nothing
         half-done stays. A second one ends at once, and a guard process sets
         the guests free.

Exit codes: 0 done, 1 general, 2 configuration, 3 another session or host,
            4 storage, 5 a VM, 6 another program, 7 arguments, 8 something is
            not installed, 130 Ctrl-C, 143 SIGTERM

More: docs/operations.md";

/// Marks a value of `--vm` that begins like an option and was written as `--vm=-name`. No word has it.
pub(super) const ATTACHED: char = '\0';

/// The command line of vmbackup.
pub fn command() -> Command {
    Command::new("vmbackup")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Exact full and incremental backups of KVM/libvirt virtual machines")
        .before_help(format!(
            "vmbackup {}: exact backups of KVM/libvirt virtual machines\n{CREDIT}",
            env!("CARGO_PKG_VERSION")
        ))
        .after_help(MORE)
        .override_usage("vmbackup <MODE> [OPTIONS]")
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
        .arg(Arg::new("version").long("version").action(ArgAction::Version).help("Print the version"))
        .next_help_heading("Configuration")
        .args(configuration())
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// What can be asked for, one at a time.
fn modes() -> [Arg; 8] {
    [
        flag("run", "Back up every VM: in full or what changed, as its policy says"),
        Arg::new("prune")
            .long("prune")
            .value_name("TARGET")
            .num_args(0..=1)
            .value_parser(NonEmptyStringValueParser::new())
            .help("Show what is stored, or delete some of it: targets are below"),
        Arg::new("replicate-only")
            .long("replicate-only")
            .value_name("SCOPE")
            .num_args(0..=1)
            .value_parser(value_parser!(Scope))
            .hide_possible_values(true)
            .help("Replicate without a backup: local, cloud or both (the default)"),
        flag("cancel-replication", "Ask a replication that is under way to end"),
        flag("status", "Show how each VM stands; exit code 5 when one needs somebody"),
        flag("check", "Look whether backups can work here, and what to do where they cannot"),
        flag("migrate-config", "Write vmbackup.toml from the Bash files of the configuration"),
        flag("init", "Make BACKUP_PATH this host's: a new disk, a replica, what another host wrote to"),
    ]
}

/// How that is done.
fn options() -> [Arg; 6] {
    [
        Arg::new("vm")
            .long("vm")
            .value_name("NAME[,NAME...]")
            // What begins so is no name, and is refused before what it may be.
            .allow_hyphen_values(true)
            .value_parser(vm_names)
            .help("Only these VMs: with --run, --status, --check. With --prune one name, needed for all targets but list and archives"),
        flag("dry-run", "Say what would be done, and change nothing"),
        flag("json", "The result, or the error, as one JSON value on standard output; never asks"),
        flag("settings", "With --check: each setting too, and where it comes from"),
        Arg::new("max-age")
            .long("max-age")
            .value_name("AGE")
            .value_parser(|text: &str| MaxAge::parse(text).ok_or_else(MaxAge::allowed))
            .help("With --status: a newest restore point older than that is too old, such as 26h or 3d [default: MAX_AGE]"),
        flag("yes", "Do not ask before deleting; with --init: before taking").short('y'),
    ]
}

/// Which settings are read for it.
fn configuration() -> [Arg; 2] {
    let of_configuration = |name: &'static str, value: &'static str, help: &'static str| {
        // Takes any word, also one that looks like an option, and none at all.
        let option = Arg::new(name).long(name).value_name(value).num_args(0..=1);
        option.allow_hyphen_values(true).action(ArgAction::Append).help(help)
    };
    [
        of_configuration(
            "config-instance",
            "NAME",
            "Use the configuration NAME, a folder in the configuration directory; also VMBACKUP_INSTANCE [default: default]",
        ),
        of_configuration(
            "config-dir",
            "DIR",
            "Where the configurations are; also VMBACKUP_CONFIG_DIR [default: /opt/vmbackup/config]",
        ),
    ]
}

/// The text of `--help`.
pub(in crate::cli) fn help() -> String {
    format!("{}\n", command().render_help().to_string().trim_end())
}

fn vm_names(text: &str) -> Result<String, String> {
    if let Some(name) = text.strip_prefix(ATTACHED) {
        return Ok(name.to_owned());
    }
    if text.is_empty() || text.starts_with('-') {
        return Err("no name of a VM".to_owned());
    }
    Ok(text.to_owned())
}
