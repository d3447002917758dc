//! Reads the words on the command line, from left to right: the last of equal options counts, and the first error is said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::asked::{Asked, Mode, Options, UsageError};
use super::command::command;

const DEFAULT_INSTANCE: &str = "default";
const DEFAULT_CONFIG_DIR: &str = "/opt/vmbackup/config";

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
    Ok(Options {
        mode: mode(matches)?,
        backup_path: matches.get_one::<PathBuf>("backup-path").cloned(),
        instance: instance.unwrap_or_else(|| DEFAULT_INSTANCE.to_owned()),
        config_dir: config_dir.map_or_else(|| DEFAULT_CONFIG_DIR.into(), PathBuf::from),
        json: matches.get_flag("json"),
    })
}

fn mode(matches: &ArgMatches) -> Result<Mode, UsageError> {
    if matches.get_flag("list") {
        return Ok(Mode::List);
    }
    Err(UsageError("No mode is named\nSee what there is: vmrestore --help".to_owned()))
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
