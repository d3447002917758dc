//! Reads the words on the command line, from left to right: the last of equal options counts, and the first error is said.

use std::collections::BTreeMap;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::asked::{Asked, Scope, UsageError};
use super::command::{ATTACHED, command};
use super::rules::Named;
use vmconfig::value::{MaxAge, Value};

/// Reads the words behind the program's name. Pure: `environment` stands for the process environment.
pub(in crate::cli) fn parse(
    words: impl IntoIterator<Item = String>,
    environment: &BTreeMap<String, String>,
) -> Result<Asked, UsageError> {
    let words: Vec<String> = words.into_iter().map(marked).collect();
    let ends_options = words.iter().any(|word| word == "--");
    let read = |words: &[String]| command().no_binary_name(true).try_get_matches_from(words);
    match read(&words) {
        // It ends the options for clap; there is nothing that it could stand before.
        Ok(_) if ends_options => Err(unknown("--")),
        Ok(matches) => named(&matches).settle(environment),
        Err(error) => {
            // clap looks at the value of an option that may stand alone when the next option is known.
            let word = text(&error, ContextKind::InvalidArg);
            let before =
                words.iter().position(|it| it == word).filter(|_| error.kind() == ErrorKind::UnknownArgument);
            refused(&before.and_then(|at| read(&words[..at]).err()).unwrap_or(error))
        }
    }
}

/// `--vm=-name` with a mark: what begins so is the name of a VM only where it is written in one word.
fn marked(word: String) -> String {
    match word.strip_prefix("--vm=").filter(|name| name.starts_with('-')) {
        Some(name) => format!("--vm={ATTACHED}{name}"),
        None => word,
    }
}

fn named(matches: &ArgMatches) -> Named {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    // One that stands alone, or is empty, leaves things as they are.
    let last = |name: &str| matches.get_many::<String>(name)?.rfind(|value| !value.is_empty()).cloned();
    let is_used = |name: &str| matches.value_source(name).is_some();
    Named {
        run: matches.get_flag("run"),
        prune: is_used("prune").then(|| text("prune")),
        replicate: is_used("replicate-only")
            .then(|| matches.get_one("replicate-only").copied().unwrap_or(Scope::Both)),
        cancel: matches.get_flag("cancel-replication"),
        status: matches.get_flag("status"),
        check: matches.get_flag("check"),
        migrate: matches.get_flag("migrate-config"),
        init: matches.get_flag("init"),
        vm: text("vm"),
        dry_run: matches.get_flag("dry-run"),
        json: matches.get_flag("json"),
        settings: matches.get_flag("settings"),
        max_age: matches.get_one("max-age").copied(),
        yes: matches.get_flag("yes"),
        instance: last("config-instance"),
        config_dir: last("config-dir"),
    }
}

/// What clap refuses, in this program's words; to ask for help or the version is no error.
fn refused(error: &clap::Error) -> Result<Asked, UsageError> {
    let word = text(error, ContextKind::InvalidArg);
    // `--vm <NAME>` for `--vm`.
    let option = word.split(' ').next().unwrap_or_default();
    let value = text(error, ContextKind::InvalidValue);
    match (error.kind(), option) {
        (ErrorKind::DisplayHelp, _) => Ok(Asked::Help),
        (ErrorKind::DisplayVersion, _) => Ok(Asked::Version),
        (ErrorKind::UnknownArgument, _) => Err(unknown(word)),
        (_, "--vm") => Err(no_vm()),
        (_, "--replicate-only") => Err(bad_scope(value)),
        (_, "--prune") => Err(unknown(value)),
        (_, "--max-age") => Err(bad_age(value)),
        _ => Err(unknown(&format!("{option}={value}"))),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> &str {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text,
        _ => "",
    }
}

fn unknown(word: &str) -> UsageError {
    UsageError(format!("Unknown option: {word}\nSee what there is: vmbackup --help"))
}

fn bad_scope(word: &str) -> UsageError {
    UsageError(format!("--replicate-only takes local, cloud or both, not '{word}'"))
}

fn bad_age(word: &str) -> UsageError {
    UsageError(format!("--max-age takes {}, not '{word}'", MaxAge::allowed()))
}

fn no_vm() -> UsageError {
    UsageError("--vm needs the name of a VM, or several with commas: --vm web,db".to_owned())
}
