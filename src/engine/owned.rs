//! What a run owns, kept in step in three places: here, in the journal file, and with the guard.

use std::path::PathBuf;

use super::guard::Guard;
use super::journal::{self, Journal, Stage, Started, Stop};
use super::report::Report;
use super::{BackupError, recover};
use crate::libvirt::Host;

/// The journal of a run that is under way.
pub(super) struct Owned<'a> {
    journal: Journal,
    file: PathBuf,
    lock_file: PathBuf,
    guard: &'a Guard,
}

impl<'a> Owned<'a> {
    /// Writes the journal and tells the guard. Nothing may be owned before this returns.
    pub(super) fn begin(
        journal: Journal,
        file: PathBuf,
        lock_file: PathBuf,
        guard: &'a Guard,
    ) -> Result<Self, BackupError> {
        let owned = Self { journal, file, lock_file, guard };
        match owned.keep() {
            Ok(()) => Ok(owned),
            Err(error) => {
                // Nothing is owned yet.
                let _ = Journal::remove(&owned.file);
                Err(error)
            }
        }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Says how the guest is about to be kept still, or that it is not any more.
    pub(super) fn set_stop(&mut self, stop: Stop) -> Result<(), BackupError> {
        if self.journal.stop == stop {
            return Ok(());
        }
        self.journal.stop = stop;
        self.keep()
    }

    /// Says which witnesses are about to be added or removed.
    pub(super) fn set_witnesses(&mut self, witnesses: Vec<String>) -> Result<(), BackupError> {
        self.journal.witnesses = witnesses;
        self.keep()
    }

    /// Says which run of the domain is ours. libvirt's number is `None` once none is any more.
    pub(super) fn set_started(&mut self, id: Option<u32>) -> Result<(), BackupError> {
        self.journal.started = id.map(|id| Started { id: Some(id), boot: journal::boot_id() });
        self.keep()
    }

    /// Owns from now on what this journal names, and the run of the domain that was owned before.
    pub(super) fn go_on_with(&mut self, journal: Journal) -> Result<(), BackupError> {
        let before = std::mem::replace(&mut self.journal, journal);
        self.journal.started = before.started;
        self.keep()?;
        self.guard.release(&before.id)?;
        Ok(())
    }

    /// Says how far the run came.
    pub(super) fn set_stage(&mut self, stage: Stage) -> Result<(), BackupError> {
        self.journal.stage = stage;
        self.keep()
    }

    fn keep(&self) -> Result<(), BackupError> {
        self.journal.write(&self.file)?;
        self.guard.watch(&self.journal, self.file.clone(), self.lock_file.clone())?;
        Ok(())
    }

    /// The run is complete: nothing is owned any more.
    pub(super) fn finish(self) -> Result<(), BackupError> {
        // QEMU and libvirt remove their files at the end of a job, but not when the process was shut down.
        for left in self.journal.scratch.iter().chain([&self.journal.socket]) {
            let _ = std::fs::remove_file(left);
        }
        Journal::remove(&self.file)?;
        // A guard that is dead can do no harm any more.
        let _ = self.guard.release(&self.journal.id);
        Ok(())
    }

    /// The run failed: undoes everything. What cannot be undone now stays in the journal for the next run.
    ///
    /// `Ok` when the failure came after the commit: the point is there, and only a warning is due.
    pub(super) fn undo_after(
        self,
        error: BackupError,
        host: &Host,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        let undone = recover::undo(&self.journal, host);
        if undone.still_frozen {
            tracing::warn!(vm = self.journal.domain, "{}", self.guard.thaw_late(&self.journal));
        }
        if undone.resumed {
            tracing::warn!(vm = self.journal.domain, "{}", self.guard.keep(&self.journal));
        }
        if undone.failed.is_empty() {
            let _ = Journal::remove(&self.file);
            // A guard that still watches finds no journal and does nothing.
            let _ = self.guard.release(&self.journal.id);
        }
        if undone.committed {
            report.warnings.push(format!("the backup is complete, but: {error}"));
            return Ok(());
        }
        if undone.failed.is_empty() {
            return Err(error);
        }
        Err(BackupError::LeftBehind { error: Box::new(error), failed: undone.failed })
    }
}
