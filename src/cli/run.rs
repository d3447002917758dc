//! The program `vmbackup`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::arguments::Arguments;
use super::exit::Exit;
use super::plan;
use super::progress::Progress;
use super::summary;
use crate::catalog::{Catalog, NewSession, SessionKind, SessionStatus};
use crate::clock::Clock;
use crate::config;
use crate::config::value::LogLevel;
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::fail_point::FailPoints;
use crate::engine::guard::{self, GUARD_ARGUMENT};
use crate::session::{self, Records, Session, SessionError};

/// Tests name a place to die at here.
const FAIL_POINT_VARIABLE: &str = "VMBACKUP_FAIL_POINT";

/// Tests say here at what time a run begins, in UTC: `2027-03-28T00:30:00Z`. What is written then has that date.
const NOW_VARIABLE: &str = "VMBACKUP_TEST_NOW";

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(GUARD_ARGUMENT) {
        guard::run_guard(&words.next().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage_error(&error),
    };
    if !arguments.run {
        tell(&format!(
            "vmbackup {}\n\nUsage: vmbackup --run [--vm NAME,NAME] [--dry-run]\n\nMore: vmbackup --help\n",
            env!("CARGO_PKG_VERSION")
        ));
        return Exit::Ok.into();
    }
    match run(&arguments) {
        Ok(exit) => exit.into(),
        Err((exit, message)) => {
            eprintln!("Error: {message}");
            exit.into()
        }
    }
}

/// Prints to standard output. A reader that is gone changes nothing about what was done, nor about the exit code.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn usage_error(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        tell(&error.to_string());
        return Exit::Ok.into();
    }
    let text = error.to_string();
    eprint!("Error: {}", text.strip_prefix("error: ").unwrap_or(&text));
    Exit::Usage.into()
}

fn run(arguments: &Arguments) -> Result<Exit, (Exit, String)> {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let loaded = config::load(&arguments.config_dir, &arguments.config_instance, &environment)
        .map_err(|e| (Exit::Configuration, with_causes(&e)))?;
    let progress = Progress::new();
    super::progress::start_log(log_level(loaded.settings.log_level), progress.bars());
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    session::priority::lower(&loaded.settings).iter().for_each(|what| tracing::warn!("{what}"));
    // Backups are for root and the group of the backup path only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    let fail_points = fail_points(&environment)?;
    let settings = &loaded.settings;
    let clock = clock(&environment)?;
    let session = Session::open(settings, &arguments.vm, clock).map_err(session_error)?;
    if arguments.dry_run {
        let plans = session.plan();
        if arguments.json {
            tell(&format!("{:#}\n", plan::json(&plans)));
        } else {
            tell(&plan::text(&plans));
        }
        return Ok(Exit::Ok);
    }
    let catalog = Catalog::open(settings.backup_path.as_path(), clock.now());
    let row = catalog.begin_session(&NewSession {
        instance: &arguments.config_instance,
        kind: if arguments.vm.is_empty() { SessionKind::Standard } else { SessionKind::Targeted },
        log_file: Path::new(""),
        at: clock.now(),
    });
    let records = Records { catalog: &catalog, session: row.id() };
    let cancel = Cancel::default();
    stop_on_signals(&cancel);
    let outcomes = session.run(records, fail_points, &progress, &cancel).map_err(session_error)?;
    let failed = outcomes.iter().filter(|outcome| outcome.is_failed()).count();
    let status = match cancel.stopped() {
        Some(StopReason::Signal(number)) => SessionStatus::of_signal(number),
        _ => SessionStatus::of_counts(outcomes.len() - failed, failed),
    };
    row.end(status, clock.now());
    if arguments.json {
        tell(&format!("{:#}\n", summary::json(&outcomes)));
    } else {
        tell(&summary::table(&outcomes));
    }
    Ok(summary::exit(&outcomes, &cancel))
}

/// An error and what it comes from, as one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn fail_points(environment: &BTreeMap<String, String>) -> Result<FailPoints, (Exit, String)> {
    let Some(text) = environment.get(FAIL_POINT_VARIABLE) else { return Ok(FailPoints::default()) };
    let unknown = || (Exit::Usage, format!("{FAIL_POINT_VARIABLE}={text} names no fail point"));
    FailPoints::parse(text).ok_or_else(unknown)
}

/// The clock of this run: the system's, but for tests.
fn clock(environment: &BTreeMap<String, String>) -> Result<Clock, (Exit, String)> {
    let Some(text) = environment.get(NOW_VARIABLE) else { return Ok(Clock::system()) };
    let moment = text.parse().map_err(|e| (Exit::Usage, format!("{NOW_VARIABLE}={text} is no time: {e}")))?;
    Ok(Clock::from(moment))
}

fn session_error(error: SessionError) -> (Exit, String) {
    let exit = match &error {
        SessionError::NoBackupPath(_) | SessionError::NotADirectory(_) | SessionError::NotWritable { .. } => {
            Exit::Storage
        }
        SessionError::Libvirt { .. } => Exit::Tool,
        SessionError::UnknownVm { .. } => Exit::Vm,
        SessionError::Engine(error) => summary::exit_of(error),
    };
    (exit, error.to_string())
}

fn log_level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    }
}

/// The first signal stops the run in order; a second one ends the program at once, and the guard does the rest.
fn stop_on_signals(cancel: &Cancel) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if cancel.stopped().is_some() {
                std::process::exit(i32::from(Exit::Signal(signal).code()));
            }
            cancel.stop(StopReason::Signal(signal));
            tracing::warn!("signal {signal}: stopping in order; once more ends at once");
        }
    });
}
