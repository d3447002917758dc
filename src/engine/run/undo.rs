//! Ends what a run owns; where the run failed, undoes it.
//!
//! Must not live here: how it is undone (`recovery`), what an earlier run left (`undo_earlier`).

use crate::engine::BackupError;
use crate::engine::claims::journal::Quiesce;
use crate::engine::claims::owned::Owned;
use crate::engine::recovery::undo;
use vmhost::libvirt::Host;

/// The run is over, as `done` says: nothing is owned any more, or all is undone.
///
/// A warning when it failed after the commit: the point is there.
pub(super) fn end(
    owned: Owned<'_>,
    done: Result<(), BackupError>,
    host: &Host,
) -> Result<Option<String>, BackupError> {
    match done {
        Ok(()) => Ok(owned.finish().map(|()| None)?),
        Err(error) => undo_after(owned, error, host).map(Some),
    }
}

/// Undoes everything. What cannot be undone now stays in the journal for the next run.
fn undo_after(owned: Owned<'_>, error: BackupError, host: &Host) -> Result<String, BackupError> {
    let journal = owned.journal();
    let undone = undo::undo(journal, owned.file(), host);
    if undone.still_frozen {
        tracing::warn!(vm = journal.domain, "{}", owned.free_late());
    }
    if undone.resumed {
        tracing::warn!(vm = journal.domain, "{}", owned.keep_domain());
    }
    if undone.failed.is_empty() {
        // A pause or a freeze that failed may be late: then the guard waits for it.
        let is_free = undone.freed || journal.quiesce == Quiesce::None;
        owned.give_up(is_free);
    }
    if undone.committed {
        return Ok(format!("the backup is complete, but: {error}"));
    }
    if undone.failed.is_empty() {
        return Err(error);
    }
    Err(BackupError::LeftBehind { error: Box::new(error), failed: undone.failed })
}
