//! What a run owns, kept in step in three places: here, in the journal file, and with the guard.

use std::path::Path;
use std::time::{Duration, Instant};

use super::beats::Beats;
use super::guard::{Guard, Places};
use super::journal::{self, DomainRun, Journal, OpenJournal, Quiesce, Stage};
use super::order::Scratch;
use super::{ClaimError, left_by_job};

/// The journal of a run that is under way.
pub(crate) struct Claims<'a> {
    journal: Journal,
    file: OpenJournal,
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

impl<'a> Claims<'a> {
    /// Writes the journal and tells the guard. Nothing may be claimed before this returns.
    pub(crate) fn begin(journal: Journal, places: Places, guard: &'a Guard) -> Result<Self, ClaimError> {
        let begun =
            OpenJournal::begin(&places.journal, &journal).map_err(ClaimError::from).and_then(|file| {
                guard.watch(&journal, &places, None)?;
                Ok(file)
            });
        match begun {
            Ok(file) => Ok(Self { journal, file, places, guard, job: None }),
            Err(error) => {
                // Nothing is claimed yet.
                let _ = Journal::remove(&places.journal);
                Err(error)
            }
        }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The journal's file.
    pub(crate) fn file(&self) -> &Path {
        &self.places.journal
    }

    /// Says how the guest of this run of the domain is about to be kept still, and for how long at most.
    pub(crate) fn hold(
        &mut self,
        quiesce: Quiesce,
        run: Option<u32>,
        limit: Duration,
    ) -> Result<Hold, ClaimError> {
        self.journal.quiesce = quiesce;
        self.journal.held = Some(DomainRun { id: run, boot: journal::boot_id() });
        self.file.note_guest(&self.journal)?;
        let hold = Hold { told: Instant::now(), limit: limit + GUARD_GRACE };
        self.guard.watch(&self.journal, &self.places, Some(hold.limit))?;
        Ok(hold)
    }

    /// Says that the guest was seen to be free. The guard first: the journal may be on a disk that hangs.
    pub(crate) fn is_free(&mut self) -> Result<(), ClaimError> {
        self.journal.quiesce = Quiesce::None;
        self.journal.held = None;
        self.guard.watch(&self.journal, &self.places, None)?;
        Ok(self.file.note_guest(&self.journal)?)
    }

    /// Leaves a guest that may be frozen, or come to be, to the guard, at once. Returns what to tell people.
    pub(crate) fn free_late(&self) -> String {
        self.guard.free_late(&self.journal, &self.places)
    }

    /// Says that a job is about to begin, with its scratch files there. From now on the guard watches that directory
    /// wherever [`Self::beats`] do not say that it is watched here.
    pub(crate) fn expect_job(&mut self, scratch: Scratch) -> Result<(), ClaimError> {
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
    pub(crate) fn job_is_over(&mut self) -> Result<(), ClaimError> {
        self.job = None;
        Ok(self.guard.job_is_over(&self.journal.id)?)
    }

    /// Says which chain markers are about to be added or removed.
    pub(crate) fn set_markers(&mut self, markers: Vec<String>) -> Result<(), ClaimError> {
        self.journal.markers = markers;
        self.keep()
    }

    /// Says which run of the domain is ours. libvirt's number is `None` once none is any more.
    pub(crate) fn set_started(&mut self, id: Option<u32>) -> Result<(), ClaimError> {
        self.journal.started = id.map(|id| DomainRun { id: Some(id), boot: journal::boot_id() });
        self.keep()
    }

    /// Claims from now on what this journal names, and the run of the domain that was claimed before.
    pub(crate) fn go_on_with(&mut self, journal: Journal) -> Result<(), ClaimError> {
        let before = std::mem::replace(&mut self.journal, journal);
        self.journal.started = before.started;
        self.keep()?;
        self.guard.release(&before.id, true)?;
        Ok(())
    }

    /// Says how far the run came.
    pub(crate) fn set_stage(&mut self, stage: Stage) -> Result<(), ClaimError> {
        self.journal.stage = stage;
        self.keep()
    }

    fn keep(&mut self) -> Result<(), ClaimError> {
        self.file.note(&self.journal)?;
        self.guard.watch(&self.journal, &self.places, None)?;
        Ok(())
    }

    /// The run is complete: nothing is claimed any more.
    pub(crate) fn finish(self) -> Result<(), ClaimError> {
        // QEMU and libvirt remove their files at the end of a job, but not when the process was shut down.
        let _ = left_by_job::remove(&left_by_job::files(&self.journal));
        let removed = Journal::remove(&self.places.journal);
        // Also with the journal there: nothing is claimed any more. A guard that is dead can do no harm. One that still
        // asks a guest to thaw goes on.
        let _ = self.guard.release(&self.journal.id, self.journal.quiesce == Quiesce::None);
        Ok(removed?)
    }

    /// Leaves a domain that was started for its backup to the person who has resumed it. Returns what to tell people.
    pub(crate) fn keep_domain(&self) -> String {
        self.guard.keep(&self.journal)
    }

    /// All was undone: nothing is claimed any more. A guest that was not seen to be free is looked after by the guard.
    pub(crate) fn give_up(self, is_free: bool) {
        let _ = Journal::remove(&self.places.journal);
        let _ = self.guard.release(&self.journal.id, is_free);
    }
}
