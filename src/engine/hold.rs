//! Keeps the guest still for the moment of the snapshot: frozen by its agent, or paused.
//!
//! The snapshot is taken atomically at backup-begin, so this spans only that call.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::BackupError;
use super::journal::Stop;
use super::owned::Owned;
use super::recover;
use super::report::Method;
use super::settings::EngineSettings;
use crate::config::value::Consistency;
use crate::guest::Agent;
use crate::libvirt::{Domain, DomainState};

/// How long a guest is asked to thaw before the backup goes on; afterwards it is asked again, and the guard too.
const THAW_PATIENCE: Duration = Duration::from_secs(15);

/// What a snapshot was taken with.
pub(super) struct Held {
    pub(super) method: Method,
    /// How long the guest stood still.
    pub(super) stopped: Duration,
    /// A freeze was asked for and not confirmed: it may still happen, so the guest is thawed again at the end.
    pub(super) thaw_again: bool,
}

/// Keeps the guest still while `snapshot` runs. Whatever happens in it, the guest runs on afterwards.
///
/// `agent_answers`: it did at the start of the run; whether it still does is asked here.
pub(super) fn still_during<T>(
    domain: &Domain,
    agent_answers: bool,
    settings: &EngineSettings,
    owned: &mut Owned<'_>,
    warnings: &mut Vec<String>,
    snapshot: impl FnOnce() -> Result<T, BackupError>,
) -> Result<(T, Held), BackupError> {
    if matches!(domain.state()?, DomainState::Paused | DomainState::Preserved) {
        let held = Held { method: Method::AlreadyPaused, stopped: Duration::ZERO, thaw_again: false };
        return Ok((snapshot()?, held));
    }
    let way = settings.consistency_of(domain.name());
    if matches!(way, Consistency::Auto | Consistency::Freeze) && agent_answers {
        if Agent::of(domain).ping().is_ok() {
            return frozen_during(domain, settings, owned, warnings, snapshot);
        }
        let instead = if way == Consistency::Auto { "was paused instead" } else { "was left running" };
        warnings.push(format!(
            "the guest agent does not answer any more; the guest {instead}, and the backup is crash-consistent"
        ));
    } else if way == Consistency::Freeze {
        warnings
            .push("CONSISTENCY=freeze, and no guest agent answers; the backup is crash-consistent".into());
    }
    match way {
        Consistency::Auto | Consistency::Pause => paused_during(domain, owned, snapshot),
        Consistency::Freeze | Consistency::None => {
            let held = Held { method: Method::Running, stopped: Duration::ZERO, thaw_again: false };
            Ok((snapshot()?, held))
        }
    }
}

fn paused_during<T>(
    domain: &Domain,
    owned: &mut Owned<'_>,
    snapshot: impl FnOnce() -> Result<T, BackupError>,
) -> Result<(T, Held), BackupError> {
    owned.set_stop(Stop::Paused)?;
    let since = Instant::now();
    domain.pause().map_err(BackupError::Pause)?;
    let taken = snapshot();
    let resumed = domain.resume();
    let stopped = since.elapsed();
    resumed?;
    owned.set_stop(Stop::None)?;
    Ok((taken?, Held { method: Method::Paused, stopped, thaw_again: false }))
}

fn frozen_during<T>(
    domain: &Domain,
    settings: &EngineSettings,
    owned: &mut Owned<'_>,
    warnings: &mut Vec<String>,
    snapshot: impl FnOnce() -> Result<T, BackupError>,
) -> Result<(T, Held), BackupError> {
    owned.set_stop(Stop::Frozen)?;
    let limit = settings.freeze_limit;
    let since = Instant::now();
    let frozen = Agent::of(domain).freeze(&settings.freeze_paths, limit);
    if let Err(error) = &frozen {
        let thawed = recover::thaw(domain, THAW_PATIENCE);
        let stopped = since.elapsed();
        warnings.push(format!(
            "the guest could not be frozen ({error}); the backup is crash-consistent. Thawed: {}",
            if thawed { "confirmed" } else { "not confirmed, tried again after the backup" }
        ));
        let held = Held { method: Method::Running, stopped, thaw_again: true };
        return Ok((snapshot()?, held));
    }
    if frozen.is_ok_and(|count| count == 0) && !settings.freeze_paths.is_empty() {
        warnings.push(format!(
            "no file system was frozen: the guest has none at VIRTNBD_FSFREEZE_PATHS ({}); the backup is crash-consistent",
            settings.freeze_paths.join(", ")
        ));
    }
    let left = limit.saturating_sub(since.elapsed());
    let (taken, thawed_early) = thaw_if_late(domain, left, snapshot);
    let thawed = recover::thaw(domain, THAW_PATIENCE);
    let stopped = since.elapsed();
    if thawed {
        owned.set_stop(Stop::None)?;
    } else {
        warnings.push("the guest did not confirm that it is thawed; tried again after the backup".into());
    }
    let method = if thawed_early {
        warnings.push(format!(
            "the snapshot took longer than the guest may be frozen ({} s), so it was thawed before; the backup is \
             crash-consistent",
            limit.as_secs()
        ));
        Method::Running
    } else {
        Method::Agent
    };
    Ok((taken?, Held { method, stopped, thaw_again: !thawed }))
}

/// Runs `work`; thaws the guest if it takes longer than `limit`. Tells whether it did.
fn thaw_if_late<T>(domain: &Domain, limit: Duration, work: impl FnOnce() -> T) -> (T, bool) {
    let (finished, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let timer = scope.spawn(move || {
            let late = wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                recover::thaw(domain, THAW_PATIENCE);
            }
            late
        });
        let done = work();
        drop(finished);
        (done, timer.join().unwrap_or(false))
    })
}
