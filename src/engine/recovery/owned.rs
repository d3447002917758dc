//! What a run owns, kept in step in three places: here, in the journal file, and with the guard.

use std::time::{Duration, Instant};

use super::guard::{Beats, Guard, Places, Scratch};
use super::journal::{self, DomainRun, Journal, Stage, Stop};
use super::recover;
use crate::engine::BackupError;
use crate::engine::snapshot::scratch;
use vmhost::libvirt::Host;

/// The journal of a run that is under way.
pub(crate) struct Owned<'a> {
    journal: Journal,
    places: Places,
    guard: &'a Guard,
    /// Where the scratch files of the job are, while there may be one.
    job: Option<Scratch>,
}

/// The guard frees a guest that is held for so much longer than it may be.
const GUARD_GRACE: Duration = Duration::from_secs(5);

/// A guest that is held still, as the guard knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    told: Instant,
    limit: Duration,
}

impl Hold {
    /// Whether the guard may have set the guest free meanwhile. It counts from a moment later.
    pub(crate) fn may_be_over(&self) -> bool {
        self.told.elapsed() >= self.limit
    }
}

impl<'a> Owned<'a> {
    /// Writes the journal and tells the guard. Nothing may be owned before this returns.
    pub(crate) fn begin(journal: Journal, places: Places, guard: &'a Guard) -> Result<Self, BackupError> {
        let owned = Self { journal, places, guard, job: None };
        match owned.keep() {
            Ok(()) => Ok(owned),
            Err(error) => {
                // Nothing is owned yet.
                let _ = Journal::remove(&owned.places.journal);
                Err(error)
            }
        }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Says how the guest of this run of the domain is about to be kept still, and for how long at most.
    pub(crate) fn hold(
        &mut self,
        stop: Stop,
        run: Option<u32>,
        limit: Duration,
    ) -> Result<Hold, BackupError> {
        self.journal.stop = stop;
        self.journal.held = Some(DomainRun { id: run, boot: journal::boot_id() });
        self.journal.write(&self.places.journal)?;
        let hold = Hold { told: Instant::now(), limit: limit + GUARD_GRACE };
        self.guard.watch(&self.journal, &self.places, Some(hold.limit))?;
        Ok(hold)
    }

    /// Says that the guest was seen to be free. The guard first: the journal may be on a disk that hangs.
    pub(crate) fn is_free(&mut self) -> Result<(), BackupError> {
        self.journal.stop = Stop::None;
        self.journal.held = None;
        self.guard.watch(&self.journal, &self.places, None)?;
        self.journal.write(&self.places.journal)?;
        Ok(())
    }

    /// Leaves a guest that may be frozen, or come to be, to the guard, at once. Returns what to tell people.
    pub(crate) fn free_late(&self) -> String {
        self.guard.free_late(&self.journal, &self.places)
    }

    /// Says that a job is about to begin, with its scratch files there. From now on the guard watches that directory
    /// wherever [`Self::beats`] do not say that it is watched here.
    pub(crate) fn expect_job(&mut self, scratch: Scratch) -> Result<(), BackupError> {
        self.guard.beat(&self.journal.id, &scratch)?;
        self.job = Some(scratch);
        Ok(())
    }

    /// What the watch over the job's scratch directory says to the guard. `None` without a job.
    pub(crate) fn beats(&self) -> Option<Beats<'a>> {
        let scratch = self.job.clone()?;
        Some(Beats::new(self.guard, self.journal.id.clone(), scratch))
    }

    /// Why the guard has ended the job, if it has.
    pub(crate) fn why_guard_ended_job(&self) -> Option<String> {
        self.guard.beat(&self.journal.id, self.job.as_ref()?).ok().flatten()
    }

    /// Says that the job is over.
    pub(crate) fn job_is_over(&mut self) -> Result<(), BackupError> {
        self.job = None;
        Ok(self.guard.job_is_over(&self.journal.id)?)
    }

    /// Says which witnesses are about to be added or removed.
    pub(crate) fn set_witnesses(&mut self, witnesses: Vec<String>) -> Result<(), BackupError> {
        self.journal.witnesses = witnesses;
        self.keep()
    }

    /// Says which run of the domain is ours. libvirt's number is `None` once none is any more.
    pub(crate) fn set_started(&mut self, id: Option<u32>) -> Result<(), BackupError> {
        self.journal.started = id.map(|id| DomainRun { id: Some(id), boot: journal::boot_id() });
        self.keep()
    }

    /// Owns from now on what this journal names, and the run of the domain that was owned before.
    pub(crate) fn go_on_with(&mut self, journal: Journal) -> Result<(), BackupError> {
        let before = std::mem::replace(&mut self.journal, journal);
        self.journal.started = before.started;
        self.keep()?;
        self.guard.release(&before.id, true)?;
        Ok(())
    }

    /// Says how far the run came.
    pub(crate) fn set_stage(&mut self, stage: Stage) -> Result<(), BackupError> {
        self.journal.stage = stage;
        self.keep()
    }

    fn keep(&self) -> Result<(), BackupError> {
        self.journal.write(&self.places.journal)?;
        self.guard.watch(&self.journal, &self.places, None)?;
        Ok(())
    }

    /// The run is complete: nothing is owned any more.
    pub(crate) fn finish(self) -> Result<(), BackupError> {
        // QEMU and libvirt remove their files at the end of a job, but not when the process was shut down.
        let _ = scratch::remove(&recover::left_by_job(&self.journal));
        let removed = Journal::remove(&self.places.journal);
        // Also with the journal there: nothing is owned any more. A guard that is dead can do no harm. One that still
        // asks a guest to thaw goes on.
        let _ = self.guard.release(&self.journal.id, self.journal.stop == Stop::None);
        Ok(removed?)
    }

    /// The run failed: undoes everything. What cannot be undone now stays in the journal for the next run.
    ///
    /// A warning when the failure came after the commit: the point is there.
    pub(crate) fn undo_after(self, error: BackupError, host: &Host) -> Result<String, BackupError> {
        let undone = recover::undo(&self.journal, &self.places.journal, host);
        if undone.still_frozen {
            tracing::warn!(vm = self.journal.domain, "{}", self.free_late());
        }
        if undone.resumed {
            tracing::warn!(vm = self.journal.domain, "{}", self.guard.keep(&self.journal));
        }
        if undone.failed.is_empty() {
            let _ = Journal::remove(&self.places.journal);
            // A pause or a freeze that failed may be late: then the guard waits for it.
            let _ = self.guard.release(&self.journal.id, undone.freed || self.journal.stop == Stop::None);
        }
        if undone.committed {
            return Ok(format!("the backup is complete, but: {error}"));
        }
        if undone.failed.is_empty() {
            return Err(error);
        }
        Err(BackupError::LeftBehind { error: Box::new(error), failed: undone.failed })
    }
}
