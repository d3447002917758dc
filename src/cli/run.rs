//! `--run`: one session of backups.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::flag;

use super::context::{Context, start_log};
use super::failed::{Failed, exit_of_run, session_error};
use super::host;
use super::opened::{BACKUP_LOG, Opened};
use super::plan;
use super::progress::Progress;
use super::record::Record;
use super::replicate;
use super::say::tell;
use super::session_record::SessionRecord;
use crate::engine::cancel::{Cancel, StopReason};
use crate::session::{self, Session};
use vmreport::{Counts, Exit, SessionKind, SessionReport, SessionStatus, draw};

/// How long a run may take to stop in order: less than the service manager waits before it kills.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A signal that comes this soon after the first one asks for nothing more.
const SAME_REQUEST: Duration = Duration::from_secs(1);

pub(super) fn run(context: &Context) -> Result<Exit, Failed> {
    let progress = Progress::new();
    let log = start_log(context, progress.screen());
    let opened = Opened::begin(context, log, BACKUP_LOG, "VM BACKUP SESSION START")?;
    let (exit, results) = if context.arguments.dry_run {
        plan(context, &opened)?
    } else {
        back_up(context, &opened, &progress)?
    };
    let backup_path = context.loaded.settings.backup_path.as_path().display();
    tracing::info!("{results}");
    let more =
        [format!("Backup location: {backup_path}"), format!("Full log: {}", opened.log_file.display())];
    opened.end("VM BACKUP SESSION COMPLETE", &more, &results);
    Ok(exit)
}

fn session(context: &Context, opened: &Opened) -> Result<Session, Failed> {
    let names: Vec<String> = context.arguments.vm.iter().cloned().collect();
    let opened = Session::open(&context.loaded.settings, &names, context.clock, &opened.machine_id);
    let session = opened.map_err(session_error)?;
    session.without_effect(&context.loaded).iter().for_each(|warning| tracing::warn!("{}", warning.said));
    Ok(session)
}

fn plan(context: &Context, opened: &Opened) -> Result<(Exit, String), Failed> {
    let session = session(context, opened)?;
    let plans = session.plan(&opened.catalog);
    let host = session.host_plan(&context.loaded.dir);
    let text = format!("{}  {}\n", plan::text(&plans), host::plan_line(&host));
    let lines = text.lines().map(|line| line.trim_start_matches("[DRY-RUN] "));
    lines.for_each(|line| tracing::info!(file_only = true, "[DRY-RUN] {line}"));
    if context.arguments.json {
        let mut value = plan::json(&plans);
        value["host_config"] = host::plan_json(&host);
        context.call.answer("vmbackup/plan/1", Exit::Ok, &value);
    } else {
        tell(&text);
    }
    Ok((Exit::Ok, "[DRY-RUN] Nothing was backed up".to_owned()))
}

fn back_up(context: &Context, opened: &Opened, progress: &Progress) -> Result<(Exit, String), Failed> {
    let settings = &context.loaded.settings;
    let kind = if context.arguments.vm.is_some() { SessionKind::Targeted } else { SessionKind::Standard };
    session::priority::lower(settings).iter().for_each(|what| tracing::warn!("{what}"));
    let written = SessionRecord::begin(context, opened, kind);
    opened.remove_old_logs(settings.log_keep.get());
    let session = session(context, opened)?;
    if session.domains().next().is_none() {
        tracing::warn!("This host has no VM: nothing is backed up");
    }
    let cancel = Cancel::default();
    stop_on_signals(&cancel, progress.cleaner());
    opened.confirm_lock()?;
    opened.save_state(settings.state_backup_keep.get(), context.clock, written.id());
    let mut report = SessionReport::begin(written.head().clone());
    let record = Record { opened, progress, backup_path: settings.backup_path.as_path() };
    let fail_points = context.fail_points.clone();
    progress.begin(session.domains().count());
    report.vms = session.run(written.records(), fail_points, &record, &cancel).map_err(session_error)?;
    progress.clear();
    // Somebody who wants the run to end does not wait for this.
    if cancel.stopped().is_none() {
        report.host_config = Some(session.save_host(&context.loaded.dir, written.records()));
    }
    replicate::take_flag(&opened.state);
    let counts = Counts::of(&report.vms);
    let status = match cancel.stopped() {
        Some(StopReason::Signal(number)) => SessionStatus::of_signal(number),
        _ => SessionStatus::of_counts(counts.backed_up, counts.failed),
    };
    report.end = Some(written.end(status));
    let exit = exit_of_run(&report.vms, &cancel);
    show(context, &report, exit);
    Ok((exit, draw::final_results(counts)))
}

/// Into the log, and to whoever started the program.
fn show(context: &Context, report: &SessionReport, exit: Exit) {
    draw::session_box(report).iter().for_each(|line| tracing::info!(file_only = true, "{line}"));
    let host = report.host_config.as_ref().map(draw::host_config_line);
    host.iter().for_each(|line| tracing::info!(file_only = true, "{line}"));
    if context.arguments.json {
        context.call.answer("vmbackup/session/1", exit, &report.answer());
    } else {
        tell(&(draw::table(report) + &host.map_or_else(String::new, |line| line + "\n")));
    }
}

/// The first signal stops the run in order; one that comes later ends the program at once, and the guard does the rest. So
/// does the first one when the run has not stopped in time: what it waits for hangs.
///
/// The later one is served by the signal handler itself, so that nothing this program waits for can keep it alive. What comes
/// with the first one is the same request: timeout(1) and a terminal that is closed send two. The first one is said once it
/// has done its work, and what is drawn has gone by then: the second one leaves no time for that.
fn stop_on_signals(cancel: &Cancel, clean: impl Fn() + Send + 'static) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signals = [SIGINT, SIGTERM, SIGHUP];
    let told = Arc::new(AtomicBool::new(false));
    for signal in signals {
        let code = i32::from(Exit::Signal(signal).code());
        let _ = flag::register_conditional_shutdown(signal, code, Arc::clone(&told));
    }
    let Ok(mut signals) = signal_hook::iterator::Signals::new(signals) else { return };
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        let mut has_limit = false;
        for signal in signals.forever() {
            cancel.stop(StopReason::Signal(signal));
            if !std::mem::replace(&mut has_limit, true) {
                let told = Arc::clone(&told);
                std::thread::spawn(move || {
                    std::thread::sleep(SAME_REQUEST);
                    told.store(true, Ordering::SeqCst);
                    end_late(signal);
                });
            }
            clean();
            tracing::warn!("signal {signal}: stopping in order; once more ends at once");
        }
    });
}

/// Ends a program that has not stopped in order in time.
fn end_late(signal: i32) {
    std::thread::sleep(STOP_LIMIT.saturating_sub(SAME_REQUEST));
    let seconds = STOP_LIMIT.as_secs();
    tracing::error!(
        "not stopped {seconds} s after signal {signal}: something hangs. Ending; the guard sets the guests free"
    );
    // The line is written by a thread of its own.
    std::thread::sleep(Duration::from_millis(200));
    signal_hook::low_level::exit(i32::from(Exit::Signal(signal).code()));
}
