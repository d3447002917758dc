//! Looks at one thing that a run may have left, and carries out what [`next`] says, until it is done.
//!
//! Must not live here: when it is done (`next`), what is claimed (`process`).

use std::thread;
use std::time::{Duration, Instant};

use super::next::{Act, Look, Seen, State, next};
use crate::engine::claims::journal::{Journal, boot_id};
use crate::engine::recovery::backup_job::is_job_of;
use crate::engine::recovery::domain::{find, is_held_run};
use vmhost::guest::{Agent, FreezeStatus};
use vmhost::libvirt::{Domain, DomainState, ErrorKind, Host, JobSeen, LibvirtError};

/// What may have to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The guest may be paused.
    Resume,
    /// Its file systems may be frozen.
    Thaw,
    /// The backup job may be there.
    EndJob,
    /// The domain may run, which was started for its backup.
    ShutOff,
}

/// One task for one run.
pub(super) struct Work<'a> {
    pub(super) task: Task,
    pub(super) journal: &'a Journal,
    pub(super) host: &'a Host,
    /// Somebody else looks after the guest now: the run itself, or a later one.
    pub(super) is_theirs: &'a dyn Fn() -> bool,
    /// The domain is being started.
    pub(super) is_starting: &'a dyn Fn() -> bool,
}

impl Work<'_> {
    /// Returns what was seen when it was done.
    pub(super) fn carry_out(&self) -> Seen {
        let since = Instant::now();
        let mut state = State::default();
        let mut domain = None;
        let mut was_told = false;
        loop {
            let begun = since.elapsed();
            let seen = self.look(&mut domain);
            let ended = since.elapsed();
            let (after, act) = next(state, Look { begun, ended, seen });
            state = after;
            let is_told = match (act, &domain) {
                (Act::Done, _) => return seen,
                (Act::SetFree, Some(domain)) => self.set_free(domain).is_ok(),
                _ => false,
            };
            if !looks_at_once(was_told, is_told) {
                thread::sleep(pause_after(ended));
            }
            was_told = is_told;
        }
    }

    fn look(&self, domain: &mut Option<Domain>) -> Seen {
        // Whoever ends a job that is ours does right, whatever else is under way.
        if self.task != Task::EndJob && (self.is_theirs)() {
            return Seen::Theirs;
        }
        let found = match domain {
            Some(found) => found,
            None => match find(self.journal, self.host) {
                Ok(Some(found)) => domain.insert(found),
                Ok(None) => return Seen::Gone,
                Err(_) => return Seen::NoAnswer,
            },
        };
        let seen = match self.task {
            Task::Resume => self.look_for_pause(found),
            Task::Thaw => self.look_for_freeze(found),
            Task::EndJob => self.look_for_job(found),
            Task::ShutOff => self.look_for_run(found),
        };
        seen.unwrap_or_else(|error| match error.kind {
            // Renamed or defined anew meanwhile, or gone: the next look finds out.
            ErrorKind::NoDomain => {
                *domain = None;
                Seen::NoAnswer
            }
            _ => Seen::NoAnswer,
        })
    }

    fn look_for_pause(&self, domain: &Domain) -> Result<Seen, LibvirtError> {
        // First, because it waits for its turn behind a pause that is under way; the state does not. What else it says
        // is of no interest: a guest is not held on for it.
        if let Err(error) = domain.job_seen() {
            if had_no_turn(error.kind) {
                return Err(error);
            }
        }
        if !is_held_run(domain, self.journal)? {
            return Ok(Seen::Gone);
        }
        Ok(if domain.is_paused_on_request()? { Seen::Ours } else { Seen::Clear })
    }

    fn look_for_freeze(&self, domain: &Domain) -> Result<Seen, LibvirtError> {
        if !is_held_run(domain, self.journal)? {
            return Ok(Seen::Gone);
        }
        Ok(match Agent::of(domain).freeze_status() {
            Ok(FreezeStatus::Frozen) => Seen::Ours,
            Ok(FreezeStatus::Thawed) => Seen::Clear,
            // A freeze may wait in it, and happens when it wakes up.
            Err(_) => Seen::Unclear,
        })
    }

    fn look_for_job(&self, domain: &Domain) -> Result<Seen, LibvirtError> {
        Ok(match domain.job_seen()? {
            JobSeen::None => Seen::Clear,
            JobSeen::BeingSetUp => Seen::Unclear,
            JobSeen::Active => match domain.backup_xml()? {
                // Its description comes last, or it is no backup.
                None => Seen::Unclear,
                Some(xml) if is_job_of(self.journal, &xml) => Seen::Ours,
                Some(_) => Seen::Clear,
            },
        })
    }

    fn look_for_run(&self, domain: &Domain) -> Result<Seen, LibvirtError> {
        if (self.is_starting)() {
            return Ok(Seen::Unclear);
        }
        let Some(started) = &self.journal.started else { return Ok(Seen::Gone) };
        if started.id.is_none() || started.boot != boot_id() || domain.id()? != started.id {
            return Ok(Seen::Gone);
        }
        Ok(match domain.state()? {
            // A guest that sleeps, or that an I/O error stopped, ran before: somebody had resumed it.
            DomainState::Paused if domain.is_paused_on_request()? => Seen::Ours,
            state if state.is_active() => Seen::Theirs,
            _ => Seen::Gone,
        })
    }

    fn set_free(&self, domain: &Domain) -> Result<(), LibvirtError> {
        match self.task {
            Task::Resume => domain.resume(),
            // Whether it does is seen at the next look.
            Task::Thaw => {
                let _ = Agent::of(domain).thaw();
                Ok(())
            }
            Task::EndJob => domain.abort_job(),
            Task::ShutOff => domain.destroy(),
        }
    }
}

/// Whether a call failed before it had its turn, so that a pause may still be under way.
fn had_no_turn(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Busy | ErrorKind::ConnectionLost)
}

/// Whether the next look comes at once: after the guest was told, so that a pause that comes then is not taken for ours.
/// What was told before and has not happened takes its time: an agent that refuses, a job that libvirt is ending.
fn looks_at_once(was_told: bool, is_told: bool) -> bool {
    is_told && !was_told
}

/// How long to wait before the next look: what was on its way comes soon, a daemon that hangs perhaps in hours.
fn pause_after(time: Duration) -> Duration {
    match time.as_secs() {
        ..10 => Duration::from_millis(150),
        10..60 => Duration::from_millis(500),
        60..900 => Duration::from_secs(1),
        _ => Duration::from_secs(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_again_and_again_is_not_told_without_a_pause() {
        let told = [false, true, true, true, false, true];
        let looks = told.iter().scan(false, |was_told, &is_told| {
            Some(looks_at_once(std::mem::replace(was_told, is_told), is_told))
        });
        assert_eq!(looks.collect::<Vec<_>>(), [false, true, false, false, false, true]);
        for seconds in [0, 59, 900, 86_400] {
            assert!(pause_after(Duration::from_secs(seconds)) >= Duration::from_millis(150));
        }
    }

    #[test]
    fn only_a_call_without_its_turn_keeps_a_pause_from_being_looked_for() {
        for kind in [ErrorKind::Busy, ErrorKind::ConnectionLost] {
            assert!(had_no_turn(kind), "{kind:?}");
        }
        for kind in
            [ErrorKind::Unsupported, ErrorKind::InvalidState, ErrorKind::NoBackup, ErrorKind::Other(1)]
        {
            assert!(!had_no_turn(kind), "{kind:?}");
        }
    }
}
