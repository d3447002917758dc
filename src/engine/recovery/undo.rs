//! Undoes what a journal names: the guest first, then the job, the checkpoint, the files.
//!
//! Used by a run that fails, by the guard of a run that died, and by the next run. Every step may be repeated;
//! nothing that the journal does not name is touched.

use std::path::Path;

use super::backup_job::end_job;
use super::checkpoint::delete_checkpoint;
use super::domain::{StartedDomain, end_started, find, is_held_run, release_guest};
use super::files::{Point, undo_files};
use super::recovered::Recovered;
use crate::engine::claims::journal::{Journal, Quiesce};
use crate::engine::claims::left_by_job;
use crate::engine::domain::xml::Owner;
use crate::engine::snapshot::chain_marker;
use crate::engine::snapshot::encryption;
use vmhost::libvirt::{Domain, DomainState, Host};

/// Undoes everything that the journal names. The journal itself, `file`, is the caller's to remove, once nothing failed.
pub fn undo(journal: &Journal, file: &Path, host: &Host) -> Recovered {
    let mut recovered = Recovered::default();
    match find(journal, host) {
        Ok(Some(domain)) => {
            let name = &journal.domain;
            let released = release_guest(&domain, journal);
            recovered.freed = matches!(released, Ok(true));
            // No error: an agent that is dead for good must not stop all further backups.
            recovered.still_frozen = journal.quiesce == Quiesce::Frozen
                && !matches!(released, Ok(true))
                && is_held_run(&domain, journal).unwrap_or(true)
                && domain.state().is_ok_and(DomainState::is_active);
            recovered.note(format!("let the guest of {name} run on"), released);
            recovered.note(format!("ended the backup job of {name}"), end_job(&domain, journal));
            let point = undo_files(journal, file, &mut recovered);
            recovered.committed = point == Point::Exists;
            if point == Point::None {
                drop_checkpoint(&domain, journal, &mut recovered);
                let what = "took back marks in the images".to_owned();
                recovered.note(what, chain_marker::undo(&domain, journal));
            }
            if let Some(started) = &journal.started {
                let ended = end_started(&domain, started);
                recovered.resumed = matches!(ended, Ok(StartedDomain::Resumed));
                let what = format!("shut {name} off, which was started for its backup");
                recovered.note(what, ended.map(|ended| ended == StartedDomain::ShutOff { now: true }));
            }
        }
        // The domain was undefined meanwhile; its checkpoint went with it.
        Ok(None) => recovered.committed = undo_files(journal, file, &mut recovered) == Point::Exists,
        Err(e) => recovered.failed.push(e.to_string()),
    }
    host.forget_secret(&encryption::scratch_usage(&journal.id));
    if recovered.failed.is_empty() {
        remove_left_by_job(journal, &mut recovered);
    }
    recovered
}

fn remove_left_by_job(journal: &Journal, recovered: &mut Recovered) {
    let files = left_by_job::files(journal);
    match left_by_job::remove(&files) {
        Ok(removed) => {
            let each = files.iter().zip(removed);
            each.for_each(|(file, removed)| recovered.note(format!("removed {}", file.display()), removed));
        }
        Err(error) => recovered.failed.push(format!("removed scratch files: {error}")),
    }
}

/// Deletes the checkpoint of the run, if the checkpoint of that name is the one the run made.
fn drop_checkpoint(domain: &Domain, journal: &Journal, recovered: &mut Recovered) {
    let Some(name) = &journal.checkpoint else { return };
    let known = match domain.checkpoints() {
        Ok(known) => known,
        Err(e) => return recovered.failed.push(e.to_string()),
    };
    let is_of_run = |xml: &str| Owner::of(xml).is_some_and(|owner| owner.run == journal.id);
    if known.iter().any(|c| &c.name == name && is_of_run(&c.xml)) {
        let what = format!("deleted unfinished checkpoint {name}");
        recovered.note(what, delete_checkpoint(domain, name, &journal.images).map(|()| true));
    }
}
