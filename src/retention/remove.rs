//! Removing a period or an archived chain, so that a crash at any point is repaired by the next run.
//!
//! ```text
//! survey (mounts, links) ─► free the links of others ─► rename to .deleting-CAUSE-NAME ─► record ─► delete
//! ```
//! What is recorded: the removal in the database, and in `_state` whose checkpoints libvirt may still have.
//! The rename is the decision: from then on readers do not see it, and whoever finds such a name records it (again) and
//! deletes it. Before it nothing was touched.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::FileType;
use strum::VariantArray;
use vmplan::retention::PeriodId;

use super::inventory::{Leftover, VmTree};
use super::links;
use super::place::{ARCHIVES, Place};
use super::retention_log::{Initiator, PlannedRemoval, RemovalEvent, RemovalOutcome, RetentionLog};
use crate::engine::look::chain_files;
use crate::engine::look::checkpoint_origin;
use vmstore::durable::PARTIAL;
use vmstore::layout::{AGENT_STATUS, DELETING, FULL_BACKUP_MONTH};
use vmstore::remove::{Folder, FolderError};
use vmstore::{RemovedCheckpoints, StateDir};

/// Files of ours in a VM's folder that belong to no chain, and that `--prune all` takes with the last one.
const VM_FILES: [&str; 4] = ["chain-manifest.json", AGENT_STATUS, FULL_BACKUP_MONTH, ".tpm-backup-marker"];

/// Removes below one backup path.
pub struct Remover<'a> {
    root: Folder,
    log: &'a dyn RetentionLog,
    at: &'a dyn Fn(&str),
}

/// What became of something that was to be removed.
#[derive(Debug)]
pub struct Outcome {
    /// Where it was.
    pub place: Place,
    /// Bytes freed, or why not.
    pub result: Result<u64, FolderError>,
}

impl<'a> Remover<'a> {
    /// `at` is told each step, for tests that die there.
    pub fn open(
        backup_path: &Path,
        log: &'a dyn RetentionLog,
        at: &'a dyn Fn(&str),
    ) -> Result<Self, FolderError> {
        Ok(Self { root: Folder::backup_path(backup_path)?, log, at })
    }

    /// Removes one thing, and records that or why not.
    pub fn remove(&self, vm: &VmTree, removal: &PlannedRemoval) -> Outcome {
        let path = self.root.path().join(removal.place.path());
        let result = self.try_remove(vm, removal, &path);
        if let Err(error) = &result {
            let what = RemovalOutcome::Failed(error);
            self.log.record(&RemovalEvent { vm: vm.name(), removal, path: &path, what });
        }
        Outcome { place: removal.place.clone(), result }
    }

    fn try_remove(&self, vm: &VmTree, removal: &PlannedRemoval, path: &Path) -> Result<u64, FolderError> {
        let place = &removal.place;
        let (holder, name) = self.holder(place)?;
        let is_flat = place.archive.is_none() && place.period.folder().is_none();
        let entries = if is_flat { flat_entries(&holder)? } else { vec![name.to_owned()] };
        let mut bytes = 0;
        for entry in &entries {
            if !is_flat || holder.kind_of(entry)? == Some(FileType::Directory) {
                bytes += holder.child(OsStr::new(entry))?.survey()?;
            }
        }
        links::free(&self.root, vm, &|parts| goes(place, &entries, parts))?;
        (self.at)("surveyed");
        let hidden = hidden_name(removal.initiator, name);
        if is_flat {
            let inner = holder.make(&hidden)?;
            for entry in &entries {
                holder.rename(entry, &inner, entry)?;
            }
            inner.sync()?;
            bytes = inner.survey()?;
        } else {
            holder.rename(name, &holder, &hidden)?;
        }
        holder.sync()?;
        (self.at)("renamed");
        self.note_checkpoints(&holder, &hidden, place);
        self.log.record(&RemovalEvent { vm: vm.name(), removal, path, what: RemovalOutcome::Removed });
        (self.at)("recorded");
        holder.remove_tree(OsStr::new(&hidden))?;
        self.close(&holder, place)?;
        (self.at)("removed");
        Ok(bytes)
    }

    /// Finishes what an interrupted removal left.
    pub fn finish(&self, leftover: &Leftover) -> Result<u64, FolderError> {
        let Some((initiator, place)) = parse_leftover(leftover) else { return Ok(0) };
        let (holder, _) = self.holder(&place)?;
        let bytes = holder.child(OsStr::new(&leftover.name))?.survey()?;
        let path = self.root.path().join(place.path());
        let removal = PlannedRemoval {
            place,
            initiator,
            size_bytes: bytes,
            chains: vec![],
            age_days: None,
            limit: None,
            periods: None,
        };
        self.note_checkpoints(&holder, &leftover.name, &removal.place);
        self.log.record(&RemovalEvent {
            vm: &leftover.vm_name,
            removal: &removal,
            path: &path,
            what: RemovalOutcome::Removed,
        });
        holder.remove_tree(OsStr::new(&leftover.name))?;
        self.close(&holder, &removal.place)?;
        Ok(bytes)
    }

    /// Removes a VM's folder when nothing is left in it but files of ours. Returns how many other entries keep it.
    pub fn remove_vm_folder(&self, name: &str) -> Result<usize, FolderError> {
        let folder = self.root.descend([name])?;
        let is_ours = |name: &OsStr| VM_FILES.iter().any(|ours| name == *ours);
        let entries = folder.entries()?;
        let others = entries.iter().filter(|e| e.kind == FileType::Directory || !is_ours(&e.name)).count();
        if others == 0 {
            entries.iter().try_for_each(|entry| folder.remove_file(&entry.name).map(drop))?;
            self.root.remove_empty(name)?;
            self.root.sync()?;
        }
        Ok(others)
    }

    /// The folder something stands in, and its name there. A chain that accumulates is named after its period.
    fn holder<'p>(&self, place: &'p Place) -> Result<(Folder, &'p str), FolderError> {
        let mut parts = vec![place.vm.as_str()];
        let Some(chain) = &place.archive else {
            return Ok((self.root.descend(&parts)?, place.period.as_str()));
        };
        parts.extend(place.period.folder());
        parts.push(ARCHIVES);
        Ok((self.root.descend(&parts)?, chain))
    }

    /// Keeps what the chains in a folder that goes tell of their checkpoints.
    fn note_checkpoints(&self, holder: &Folder, hidden: &str, place: &Place) {
        let marks = checkpoint_origin::marks_in(&holder.path().join(hidden));
        let state = StateDir::of(self.root.path());
        if let Err(error) = RemovedCheckpoints::of(&state, &place.vm).add(&marks) {
            tracing::warn!(
                "{place}: its checkpoints cannot be noted ({error}); where libvirt still has them, the next backup asks for \
                 their removal"
            );
        }
    }

    /// Makes the removal durable; an archive folder goes with its last chain.
    fn close(&self, holder: &Folder, place: &Place) -> Result<(), FolderError> {
        holder.sync()?;
        if place.archive.is_none() {
            return Ok(());
        }
        let parts: Vec<&str> = [place.vm.as_str()].into_iter().chain(place.period.folder()).collect();
        let outer = self.root.descend(&parts)?;
        if outer.remove_empty(ARCHIVES)? { outer.sync() } else { Ok(()) }
    }
}

fn hidden_name(initiator: Initiator, name: &str) -> String {
    format!("{DELETING}{}-{name}", initiator.word())
}

/// What an interrupted removal was about. `None` for names of somebody else.
fn parse_leftover(leftover: &Leftover) -> Option<(Initiator, Place)> {
    let rest = leftover.name.strip_prefix(DELETING)?;
    let (initiator, name) = Initiator::VARIANTS
        .iter()
        .find_map(|c| Some((*c, rest.strip_prefix(c.word())?.strip_prefix('-')?)))?;
    let place = match &leftover.archives_of {
        Some(period) => Place::archive(&leftover.vm, period, name),
        None => Place::period(&leftover.vm, &PeriodId::parse(name)?),
    };
    Some((initiator, place))
}

/// True for what is removed with `place`.
fn goes(place: &Place, entries: &[String], parts: &[&str]) -> bool {
    if place.archive.is_some() || place.period.folder().is_some() {
        return parts.starts_with(&place.parts());
    }
    matches!(parts, [vm, entry, ..] if *vm == place.vm && entries.iter().any(|name| name == entry))
}

/// What a chain that accumulates has in the VM's folder: its list first, so that a reader who comes in between sees no
/// chain that lacks streams.
fn flat_entries(holder: &Folder) -> Result<Vec<String>, FolderError> {
    let listed = chain_files::entries(holder.path())
        .map_err(|source| FolderError::system("list", holder.path(), source))?;
    let mut names: Vec<String> = listed.into_iter().rev().collect();
    for entry in holder.entries()? {
        if let Some(name) = entry.name.to_str().filter(|name| *name == ARCHIVES || name.ends_with(PARTIAL)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
