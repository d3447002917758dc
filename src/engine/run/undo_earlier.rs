//! Undoes what an earlier run that died left of a domain, before anything else is done to it.
//!
//! Must not live here: how it is undone (`recovery`).

use crate::engine::BackupError;
use crate::engine::claims::journal::{Journal, Quiesce};
use crate::engine::recovery::undo;
use crate::engine::run::engine::Engine;

impl Engine {
    /// Undoes what a run that died left of the domain with this folder, unless another run has it. Returns what was done.
    pub fn recover(&self, folder: &str) -> Result<Vec<String>, BackupError> {
        // The lock goes by the VM's name, which the journal knows.
        let Some(journal) = Journal::read(&self.journals.file(folder))? else { return Ok(vec![]) };
        let (_lock, _present) = self.take_vm(&journal.domain, &journal.uuid)?;
        self.recover_locked(folder)
    }

    pub(super) fn recover_locked(&self, folder: &str) -> Result<Vec<String>, BackupError> {
        let file = self.journals.file(folder);
        let Some(journal) = Journal::read(&file)? else { return Ok(vec![]) };
        let here = journal.host.is_empty() || journal.host == self.machine_id;
        if journal.uri != self.host.uri() || !here {
            return Err(BackupError::OtherHost { domain: journal.domain, uri: journal.uri, file });
        }
        let recovered = undo::undo(&journal, &file, &self.host);
        if recovered.still_frozen {
            let places = self.places(folder, &journal.domain, &journal.uuid);
            tracing::warn!(vm = journal.domain, "{}", self.guard.free_late(&journal, &places));
        }
        if recovered.resumed && journal.pid == std::process::id() {
            tracing::warn!(vm = journal.domain, "{}", self.guard.keep(&journal));
        }
        if !recovered.failed.is_empty() {
            return Err(BackupError::Recovery { domain: journal.domain, failed: recovered.failed });
        }
        // A try before in this process may have left it. A pause or a freeze that failed may be late.
        let _ = self.guard.release(&journal.id, recovered.freed || journal.quiesce == Quiesce::None);
        Journal::remove(&file)?;
        let mut done = recovered.done;
        done.insert(0, format!("an earlier run (process {}) ended in the middle", journal.pid));
        if recovered.committed {
            done.push("its backup was complete and is kept".to_owned());
        }
        Ok(done)
    }
}
