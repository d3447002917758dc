//! Keeps the guest still for the moment of the snapshot: frozen by its agent, or paused.
//!
//! The snapshot is taken atomically at backup-begin, so this spans only that call. In between only libvirt is called:
//! nothing is logged, and no file of the target is touched. Whatever hangs, the guest is set free after `FREEZE_TIMEOUT`
//! by this program, and a little later by its guard.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::SnapshotError;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::journal::Quiesce;
use crate::engine::settings::EngineSettings;
use crate::engine::snapshot::thaw::thaw;
use vmconfig::value::Consistency;
use vmhost::guest::{Agent, FreezeStatus};
use vmhost::libvirt::{Domain, DomainState, LibvirtError};
use vmreport::Method;

/// How long a guest is asked to thaw before the backup goes on; afterwards it is asked again, and the guard too.
const THAW_PATIENCE: Duration = Duration::from_secs(15);

/// What a snapshot was taken with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiesced {
    pub(crate) method: Method,
    /// How long the guest stood still.
    pub(crate) stopped: Duration,
}

impl Quiesced {
    fn not_by_us(method: Method) -> Self {
        Self { method, stopped: Duration::ZERO }
    }
}

/// Keeps the guest still while `snapshot` runs. Whatever happens in it, the guest runs on afterwards.
///
/// `agent_answers`: it did at the start of the run; whether it still does is asked here.
pub(crate) fn still_during<T>(
    domain: &Domain,
    agent_answers: bool,
    settings: &EngineSettings,
    claims: &mut Claims<'_>,
    warnings: &mut Vec<String>,
    snapshot: impl FnOnce() -> Result<T, LibvirtError>,
) -> Result<(T, Quiesced), SnapshotError> {
    if matches!(domain.state()?, DomainState::Paused | DomainState::Preserved) {
        return Ok((snapshot()?, Quiesced::not_by_us(Method::AlreadyPaused)));
    }
    let way = settings.consistency_of(domain.name());
    if matches!(way, Consistency::Auto | Consistency::Freeze) && agent_answers {
        let agent = Agent::of(domain);
        // An agent that is asked to freeze twice refuses, and what is undone then is somebody else's freeze.
        if matches!(agent.freeze_status(), Ok(FreezeStatus::Frozen)) {
            warnings.push(
                "the guest's file systems were frozen already, by somebody else; they were neither frozen nor thawed for \
                 this backup, which is crash-consistent if they were thawed meanwhile"
                    .into(),
            );
            return Ok((snapshot()?, Quiesced::not_by_us(Method::AlreadyFrozen)));
        }
        if agent.ping().is_ok() {
            return frozen_during(domain, settings, claims, warnings, snapshot);
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
        Consistency::Auto | Consistency::Pause => paused_during(domain, settings, claims, warnings, snapshot),
        Consistency::Freeze | Consistency::None => Ok((snapshot()?, Quiesced::not_by_us(Method::Running))),
    }
}

fn paused_during<T>(
    domain: &Domain,
    settings: &EngineSettings,
    claims: &mut Claims<'_>,
    warnings: &mut Vec<String>,
    snapshot: impl FnOnce() -> Result<T, LibvirtError>,
) -> Result<(T, Quiesced), SnapshotError> {
    let limit = settings.freeze_limit;
    let hold = claims.hold(Quiesce::Paused, domain.id()?, limit)?;
    let since = Instant::now();
    domain.pause().map_err(SnapshotError::Pause)?;
    let left = limit.saturating_sub(since.elapsed());
    let (taken, early) = release_if_late(left, || drop(domain.resume()), snapshot);
    let early = early || hold.may_be_over();
    let resumed = domain.resume();
    let stopped = since.elapsed();
    resumed?;
    claims.is_free()?;
    let method = if early { ran_on("paused", "resumed", limit, warnings) } else { Method::Paused };
    Ok((taken?, Quiesced { method, stopped }))
}

fn frozen_during<T>(
    domain: &Domain,
    settings: &EngineSettings,
    claims: &mut Claims<'_>,
    warnings: &mut Vec<String>,
    snapshot: impl FnOnce() -> Result<T, LibvirtError>,
) -> Result<(T, Quiesced), SnapshotError> {
    let limit = settings.freeze_limit;
    let hold = claims.hold(Quiesce::Frozen, domain.id()?, limit)?;
    let since = Instant::now();
    let frozen = Agent::of(domain).freeze(&settings.freeze_paths, limit);
    if let Err(error) = &frozen {
        let thawed = thaw(domain, THAW_PATIENCE);
        let stopped = since.elapsed();
        // It may freeze as late as it likes: it is looked after from now on, beside the copying.
        let late = claims.free_late();
        warnings.push(format!(
            "the guest could not be frozen ({error}); the backup is crash-consistent. Thawed: {}",
            if thawed { "confirmed" } else { &late }
        ));
        return Ok((snapshot()?, Quiesced { method: Method::Running, stopped }));
    }
    let left = limit.saturating_sub(since.elapsed());
    let release = || {
        thaw(domain, THAW_PATIENCE);
    };
    let (taken, early) = release_if_late(left, release, snapshot);
    let early = early || hold.may_be_over();
    let thawed = thaw(domain, THAW_PATIENCE);
    let stopped = since.elapsed();
    if thawed {
        claims.is_free()?;
    } else {
        warnings.push(claims.free_late());
    }
    if frozen.is_ok_and(|count| count == 0) && !settings.freeze_paths.is_empty() {
        warnings.push(format!(
            "no file system was frozen: the guest has none at VIRTNBD_FSFREEZE_PATHS ({}); the backup is crash-consistent",
            settings.freeze_paths.join(", ")
        ));
    }
    let method = if early { ran_on("frozen", "thawed", limit, warnings) } else { Method::Agent };
    Ok((taken?, Quiesced { method, stopped }))
}

/// What a snapshot is whose guest was set free before it was taken.
fn ran_on(held: &str, freed: &str, limit: Duration, warnings: &mut Vec<String>) -> Method {
    warnings.push(format!(
        "the snapshot took longer than the guest may be {held} ({} s), so it was {freed} before; the backup is \
         crash-consistent",
        limit.as_secs()
    ));
    Method::Running
}

/// Runs `work`; sets the guest free if it takes longer than `limit`. Tells whether it did.
fn release_if_late<T>(limit: Duration, release: impl FnOnce() + Send, work: impl FnOnce() -> T) -> (T, bool) {
    let (finished, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let timer = scope.spawn(move || {
            let late = wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                release();
            }
            late
        });
        let done = work();
        drop(finished);
        (done, timer.join().unwrap_or(false))
    })
}
