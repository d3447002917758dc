//! Ends what a run owns; where the run failed, undoes it.
//!
//! Must not live here: how it is undone (`recovery`), what an earlier run left (`undo_earlier`).

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::journal::Quiesce;
use crate::engine::recovery::undo;
use vmhost::libvirt::Host;

/// The run is over, as `done` says: nothing is claimed any more, or all is undone.
///
/// A warning when it failed after the commit: the point is there.
pub(super) fn end(
    claims: Claims<'_>,
    done: Result<(), BackupError>,
    host: &Host,
) -> Result<Option<String>, BackupError> {
    match done {
        Ok(()) => Ok(claims.finish().map(|()| None)?),
        Err(error) => undo_after(claims, error, host).map(Some),
    }
}

/// Undoes everything. What cannot be undone now stays in the journal for the next run.
fn undo_after(claims: Claims<'_>, error: BackupError, host: &Host) -> Result<String, BackupError> {
    let journal = claims.journal();
    let undone = undo::undo(journal, claims.file(), host);
    if undone.still_frozen {
        tracing::warn!(vm = journal.domain, "{}", claims.free_late());
    }
    if undone.resumed {
        tracing::warn!(vm = journal.domain, "{}", claims.keep_domain());
    }
    if undone.failed.is_empty() {
        // A pause or a freeze that failed may be late: then the guard waits for it.
        let is_free = undone.freed || journal.quiesce == Quiesce::None;
        claims.give_up(is_free);
    }
    if undone.committed {
        return Ok(format!("the backup is complete, but: {error}"));
    }
    if undone.failed.is_empty() {
        return Err(error);
    }
    Err(BackupError::LeftBehind { error: Box::new(error), failed: undone.failed })
}
