//! Reads the words on the command line, from left to right: the last of equal options counts, and the first error is said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;

use super::asked::{Asked, Mode, Options, UsageError, Vms};
use super::command::command;
use crate::resolve::VmName;

const DEFAULT_INSTANCE: &str = "default";
const DEFAULT_CONFIG_DIR: &str = "/opt/vmbackup/config";

/// What can be asked for, one at a time.
const MODES: [&str; 4] = ["list", "list-restore-points", "verify", "dump"];

/// Reads the words behind the program's name. Pure: `environment` stands for the process environment.
pub(super) fn parse(
    words: impl IntoIterator<Item = String>,
    environment: &BTreeMap<String, String>,
) -> Result<Asked, UsageError> {
    let words: Vec<String> = words.into_iter().collect();
    if words.is_empty() {
        return Ok(Asked::Usage);
    }
    match command().no_binary_name(true).try_get_matches_from(&words) {
        Ok(matches) => Ok(Asked::Mode(options(&matches, environment)?)),
        Err(error) => refused(&error),
    }
}

fn options(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<Options, UsageError> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    let instance = text("config-instance").or_else(|| variable("VMBACKUP_INSTANCE"));
    let config_dir = text("config-dir").or_else(|| variable("VMBACKUP_CONFIG_DIR"));
    let mode = named_mode(matches)?;
    let named = Named::of(matches, mode);
    Ok(Options {
        mode: asked(matches, mode, &named)?,
        period: text("period"),
        backup_path: named.backup_path(matches),
        instance: instance.unwrap_or_else(|| DEFAULT_INSTANCE.to_owned()),
        config_dir: config_dir.map_or_else(|| DEFAULT_CONFIG_DIR.into(), PathBuf::from),
        json: matches.get_flag("json"),
    })
}

/// The one mode that was named.
fn named_mode(matches: &ArgMatches) -> Result<&'static str, UsageError> {
    let is_named =
        |name: &&str| matches.value_source(name).is_some_and(|source| source == ValueSource::CommandLine);
    let mut named = MODES.iter().copied().filter(is_named);
    match (named.next(), named.next()) {
        (Some(mode), None) => Ok(mode),
        (Some(one), Some(other)) => Err(UsageError(format!("--{one} and --{other} cannot be used together"))),
        (None, _) => Err(UsageError("No mode is named\nSee what there is: vmrestore --help".to_owned())),
    }
}

/// The VMs that were named, behind a mode or with `--vm`.
struct Named<'a> {
    vms: &'a [VmName],
    /// Where on the command line they stand.
    at: Option<usize>,
}

impl<'a> Named<'a> {
    fn of(matches: &'a ArgMatches, mode: &'static str) -> Self {
        let of = |name: &str| {
            let vms = matches.try_get_one::<Vec<VmName>>(name).ok().flatten()?;
            Some(Self { vms, at: matches.index_of(name) })
        };
        of(mode).or_else(|| of("vm")).unwrap_or(Self { vms: &[], at: None })
    }

    /// The backup path that was named last: by the path of a VM, or itself.
    fn backup_path(&self, matches: &ArgMatches) -> Option<PathBuf> {
        let of_vm = self.vms.first().and_then(|vm| vm.root.clone());
        let named = matches.get_one::<PathBuf>("backup-path").cloned();
        if named.is_some() && matches.index_of("backup-path") > self.at { named } else { of_vm.or(named) }
    }

    fn one(&self, mode: &str) -> Result<VmName, UsageError> {
        match self.vms {
            [one] => Ok(one.clone()),
            [] => Err(UsageError(format!("--{mode} needs the name of a VM: --{mode} web"))),
            _ => Err(UsageError(format!("--{mode} works on one VM at a time"))),
        }
    }

    fn several(&self, matches: &ArgMatches, mode: &str) -> Result<Vms, UsageError> {
        match (matches.get_flag("all"), self.vms) {
            (true, []) => Ok(Vms::All),
            (false, []) => Err(UsageError(format!("--{mode} needs the name of a VM, or --all"))),
            (true, _) => Err(UsageError("--all and the name of a VM cannot be used together".to_owned())),
            (false, vms) => Ok(Vms::Named(vms.to_vec())),
        }
    }
}

fn asked(matches: &ArgMatches, mode: &'static str, named: &Named<'_>) -> Result<Mode, UsageError> {
    let deep = matches.get_flag("deep");
    if deep && mode != "verify" {
        return Err(UsageError("--deep needs --verify".to_owned()));
    }
    match mode {
        "list" => Ok(Mode::List),
        "list-restore-points" => Ok(Mode::Points(named.one(mode)?)),
        "verify" => Ok(Mode::Verify { vms: named.several(matches, mode)?, deep }),
        _ => Ok(Mode::Dump(named.one(mode)?)),
    }
}

/// What clap refuses, in this program's words; to ask for help or the version is no error.
fn refused(error: &clap::Error) -> Result<Asked, UsageError> {
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let word = text(ContextKind::InvalidArg);
    // `--vm <NAME>` for `--vm`.
    let (option, names) = word.split_once(' ').unwrap_or((word, "a value"));
    let value = text(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::DisplayHelp => Ok(Asked::Help),
        ErrorKind::DisplayVersion => Ok(Asked::Version),
        ErrorKind::UnknownArgument => {
            Err(UsageError(format!("Unknown option: {word}\nSee what there is: vmrestore --help")))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            Err(UsageError(format!("{option} {value}: {why}")))
        }
        _ if value.is_empty() => Err(UsageError(format!("{option} needs {names}"))),
        _ => {
            Err(UsageError(format!("{option} does not take '{value}'\nSee what there is: vmrestore --help")))
        }
    }
}
