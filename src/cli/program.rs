//! The program `vmbackup`: what the words on its command line lead to.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::MultiProgress;
use rustix::fs::Mode as FileMode;
use tracing::Level;

use super::arguments::{self, Arguments, Asked, Mode, UsageError};
use super::exit::Exit;
use super::{check, help, init, migrate, prune, replicate, run, status};
use crate::clock::Clock;
use crate::engine::recovery::guard::{self, GUARD_ARGUMENT};
use crate::engine::snapshot::scratch::{self, SPACE_ARGUMENT};
use crate::log::{self, Log, LogSetup, Place};
use vmconfig::Loaded;
use vmconfig::value::{LogFormat, LogLevel};
use vmprogram::{LOOK_ARGUMENT, WRITERS_ARGUMENT};

/// Tests say here at what time the program begins, in UTC: `2027-03-28T00:30:00Z`. What is written then has that date.
const NOW_VARIABLE: &str = "VMBACKUP_TEST_NOW";

/// How long the end waits for log files, and for standard error.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(5);

/// What a mode is started with.
pub(super) struct Context {
    pub(super) arguments: Arguments,
    pub(super) loaded: Loaded,
    /// What time it is.
    pub(super) clock: Clock,
    /// The process environment, read once.
    pub(super) environment: BTreeMap<String, String>,
}

/// Why a mode ended badly: an exit code and a text to stand behind `Error: `.
pub(super) type Failed = (Exit, String);

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).peekable();
    if words.peek().is_some_and(|word| word == GUARD_ARGUMENT) {
        guard::run_guard(&words.nth(1).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    if words.peek().is_some_and(|word| word == LOOK_ARGUMENT) {
        vmprogram::answer_look(std::env::args_os().skip(2).map(Into::into));
        return ExitCode::SUCCESS;
    }
    if words.peek().is_some_and(|word| word == SPACE_ARGUMENT) {
        std::env::args_os().nth(2).iter().for_each(|dir| scratch::tell_space(dir.as_ref()));
        return ExitCode::SUCCESS;
    }
    if words.peek().is_some_and(|word| word == WRITERS_ARGUMENT) {
        vmprogram::answer_writers(std::env::args_os().skip(2).map(Into::into));
        return ExitCode::SUCCESS;
    }
    // A variable that is not text can be no setting.
    let variables = std::env::vars_os();
    let environment =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = environment.collect();
    let done = match arguments::parse(words, &environment) {
        Err(UsageError(text)) => Err((Exit::Usage, text)),
        Ok(Asked::Help) => Ok(told(&help::help())),
        Ok(Asked::Version) => Ok(told(&help::version())),
        Ok(Asked::Usage) => Ok(told(&help::usage())),
        Ok(Asked::Mode(arguments)) => start(arguments, environment),
    };
    if let Err((_, message)) = &done {
        tracing::error!(file_only = true, "{message}");
    }
    log::flush(LAST_LINES_LIMIT);
    match done {
        Ok(exit) => exit.into(),
        Err((exit, message)) => {
            let _ = writeln!(std::io::stderr(), "Error: {message}");
            exit.into()
        }
    }
}

fn start(arguments: Arguments, environment: BTreeMap<String, String>) -> Result<Exit, Failed> {
    if !rustix::process::geteuid().is_root() {
        let text = "vmbackup must be run as root: disks, guests and backups are not for everybody. Try: sudo vmbackup …";
        return Err((Exit::General, text.to_owned()));
    }
    // What is written is for root and the group of the backup path only.
    rustix::process::umask(FileMode::from_raw_mode(0o027));
    let loaded = vmconfig::load(&arguments.config_dir, &arguments.instance, &environment)
        .map_err(|e| (Exit::Configuration, with_causes(&e)))?;
    let clock = clock(&environment)?;
    let context = Context { arguments, loaded, clock, environment };
    match &context.arguments.mode {
        Mode::Run => run::run(&context),
        Mode::CancelReplication => replicate::cancel(&context),
        Mode::ReplicateOnly(scope) => replicate::replicate_only(&context, *scope),
        Mode::Prune(target) => {
            match arguments::prune_target(target.as_deref(), context.arguments.vm.as_deref()) {
                // On standard output, as in the Bash program.
                Err(UsageError(text)) => {
                    tell(&format!("Error: {text}\n"));
                    Ok(Exit::Usage)
                }
                Ok(target) => prune::prune(&context, target),
            }
        }
        Mode::Status => status::status(&context),
        Mode::Check => check::check(&context),
        Mode::MigrateConfig => migrate::migrate(&context),
        Mode::Init => init::init(&context),
    }
}

/// The clock of this process: the system's, but for tests.
fn clock(environment: &BTreeMap<String, String>) -> Result<Clock, Failed> {
    let Some(text) = environment.get(NOW_VARIABLE) else { return Ok(Clock::system()) };
    let moment = text.parse().map_err(|e| (Exit::Usage, format!("{NOW_VARIABLE}={text} is no time: {e}")))?;
    Ok(Clock::from(moment))
}

/// Sends log lines to standard error from now on, as the settings say: through the bars where there are any.
pub(super) fn start_log(context: &Context, bars: Option<MultiProgress>) -> Log {
    let settings = &context.loaded.settings;
    let level = match settings.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let place = match (Place::of_stderr(|name| context.environment.get(name).cloned()), settings.log_format) {
        (terminal @ Place::Terminal { .. }, _) => terminal,
        (_, LogFormat::Json) => Place::Programs,
        (place, LogFormat::Text) => place,
    };
    let mut setup = LogSetup::direct(level, place);
    if let Some(bars) = bars {
        // A terminal that is gone is no reason to stop a backup.
        setup.printer = Box::new(move |text| drop(bars.println(text.trim_end())));
    }
    Log::start(setup)
}

/// Prints to standard output. A reader that is gone changes nothing about what was done, nor about the exit code.
pub(super) fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn told(text: &str) -> Exit {
    tell(text);
    Exit::Ok
}

/// An error and what it comes from, as one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
