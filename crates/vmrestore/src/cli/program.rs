//! The program `vmrestore`: what the words on its command line lead to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use vmreport::Exit;
use vmstream::causes::with_causes;

use super::asked::{Asked, Mode, Options};
use super::call::Call;
use super::failed::Failed;
use super::say::tell;
use super::{command, list, read};

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // A variable that is not text can be no setting.
    let variables = std::env::vars_os();
    let environment: BTreeMap<String, String> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let call = Call::begin(words.iter().any(|word| word == "--json"));
    match answer(words, &environment, &call) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            call.fail(&failed);
            failed.exit.into()
        }
    }
}

fn answer(words: Vec<String>, environment: &BTreeMap<String, String>, call: &Call) -> Result<Exit, Failed> {
    match read::parse(words, environment)? {
        Asked::Help | Asked::Usage => Ok(told(&command::help())),
        Asked::Version => Ok(told(&command::version())),
        Asked::Mode(options) => start(&options, environment, call),
    }
}

fn start(options: &Options, environment: &BTreeMap<String, String>, call: &Call) -> Result<Exit, Failed> {
    let root = backup_path(options, environment, call)?;
    match options.mode {
        Mode::List => list::list(&root, options.json, call),
    }
}

/// The backup path that was named, else that of the configuration, which is read for nothing else.
fn backup_path(
    options: &Options,
    environment: &BTreeMap<String, String>,
    call: &Call,
) -> Result<PathBuf, Failed> {
    if let Some(path) = &options.backup_path {
        return Ok(path.components().collect());
    }
    call.of_instance(&options.instance);
    let loaded = vmconfig::load(&options.config_dir, &options.instance, environment).map_err(|error| {
        let said = with_causes(&error);
        Failed::new(
            Exit::Configuration,
            format!("{said}. Without a configuration, name the backups with --backup-path"),
        )
    })?;
    Ok(loaded.settings.backup_path.as_path().to_owned())
}

fn told(text: &str) -> Exit {
    tell(text);
    Exit::Ok
}
