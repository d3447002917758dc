//! What a backup path holds: VMs, periods, chains, their sizes and, where they are asked for, the dates of their data.
//!
//! Lives here: reading. Must not live here: what is to be removed (`plan`, `select`), removing (`remove`).

mod date;
mod sound;
mod walk;

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use serde::{Serialize, Serializer};
use vmplan::retention::PeriodId;

use super::place::Place;

pub use walk::{Look, read, read_vm};

/// Everything below a backup path that is a backup.
#[derive(Debug, Default, Serialize)]
pub struct Inventory {
    /// VMs with at least one period, by the names of their folders.
    pub vms: Vec<VmTree>,
    /// What could not be read. What it holds is unknown.
    pub unreadable: Vec<Unreadable>,
    /// Folders of the storage, which were passed over.
    #[serde(skip)]
    pub of_storage: Vec<PathBuf>,
    /// What interrupted removals left.
    #[serde(skip)]
    pub leftovers: Vec<Leftover>,
}

/// A folder that was being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub vm: String,
    /// The name of the VM in the database.
    pub vm_name: String,
    /// In the archives of this period; else in the VM's folder.
    pub archives_of: Option<PeriodId>,
    /// Its name there.
    pub name: String,
}

/// Something that could not be read.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    pub vm: String,
    /// What it is and why.
    pub why: String,
}

/// The backups of one VM.
#[derive(Debug, Serialize)]
pub struct VmTree {
    pub folder: String,
    /// The domain's name, where a checkpoint list or a copy's definition that fits the folder tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Bytes of everything in the folder, as `du -sb` counts.
    pub size_bytes: u64,
    /// By name; a chain that accumulates comes last.
    pub periods: Vec<PeriodTree>,
}

/// One period of a VM.
#[derive(Debug, Serialize)]
pub struct PeriodTree {
    pub id: PeriodId,
    /// Bytes of everything in it, archives too.
    pub size_bytes: u64,
    /// What stands in the period itself.
    pub active: SetTree,
    /// Archived chains, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<ArchiveTree>,
    /// Bytes of the archive folder.
    pub archives_bytes: u64,
}

/// One archived chain.
#[derive(Debug, Serialize)]
pub struct ArchiveTree {
    /// `chain-YYYY-MM-DD`, with `.1`, `.2` …
    pub name: String,
    /// Bytes of everything in it.
    pub size_bytes: u64,
    /// What it holds.
    pub set: SetTree,
}

/// A backup set as the names of its files tell, and when its newest point was made.
#[derive(Debug, Default, Serialize)]
pub struct SetTree {
    /// Files called `….data`.
    pub data_files: u32,
    /// Restore points, as the names of the streams tell. 0 without a full or a copy.
    pub points: u32,
    /// Its one point is the definition of the VM, without a disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub definition_only: bool,
    /// Its files contradict each other, and nothing tells which are right. `false` when that was not asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
    /// When the newest point was made: local time, from the data itself. `None` when that does not say, or was not
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub newest: Option<DateTime>,
}

fn as_text<S: Serializer>(date: &Option<DateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&date.map(|date| date.to_string()).unwrap_or_default())
}

impl VmTree {
    /// The name to use in the database: the domain's, else the folder's.
    pub fn name(&self) -> &str {
        self.domain.as_deref().unwrap_or(&self.folder)
    }

    /// A period by its name.
    pub fn period(&self, id: &PeriodId) -> Option<&PeriodTree> {
        self.periods.iter().find(|period| period.id == *id)
    }

    /// Every backup set with at least one point: newest first, as far as their dates are known.
    pub fn sets(&self) -> Vec<(Place, &SetTree)> {
        let mut sets = Vec::new();
        for period in &self.periods {
            sets.push((Place::period(&self.folder, &period.id), &period.active));
            for archive in &period.archives {
                sets.push((Place::archive(&self.folder, &period.id, &archive.name), &archive.set));
            }
        }
        sets.retain(|(_, set)| set.points > 0);
        sets.sort_by_cached_key(|(place, set)| {
            std::cmp::Reverse((set.newest, place.archive.is_none(), place.clone()))
        });
        sets
    }

    /// The first of some sets that can be restored, as far as names, lists and the files' own words tell, and of which nothing
    /// says that this is in doubt. Takes them
    /// in this order: those that stay, newest first, then those that `goes` tells; and only then those that hold no disk.
    ///
    /// Reads the folders only until one is found.
    pub fn keeper(&self, backup_path: &Path, goes: impl Fn(&Place) -> bool) -> Option<Place> {
        let mut sets = self.sets();
        // Where there is nothing else, a definition without disks counts too.
        sets.sort_by_key(|(place, set)| (set.definition_only, goes(place)));
        let mut places = sets.into_iter().map(|(place, _)| place);
        places.find(|place| sound::worth(&backup_path.join(place.path())) == sound::Worth::Restorable)
    }

    /// True when nothing tells whether a set in some place is what was backed up. Reads its folders.
    pub fn is_doubtful(&self, backup_path: &Path, place: &Place) -> bool {
        let doubtful = |set: &Place| sound::worth(&backup_path.join(set.path())) == sound::Worth::Doubtful;
        self.sets().iter().any(|(set, _)| place.holds(set) && doubtful(set))
    }
}

impl PeriodTree {
    /// Restore points in it, archives too.
    pub fn points(&self) -> u32 {
        self.archives.iter().fold(self.active.points, |sum, archive| sum + archive.set.points)
    }

    /// No point in it has a disk.
    pub fn is_definition_only(&self) -> bool {
        let mut sets = std::iter::once(&self.active).chain(self.archives.iter().map(|archive| &archive.set));
        self.points() > 0 && sets.all(|set| set.definition_only || set.data_files == 0)
    }

    /// When the newest point in it was made. `None` when one of its sets does not tell: an older date would be a guess.
    pub fn newest(&self) -> Option<DateTime> {
        let sets = std::iter::once(&self.active).chain(self.archives.iter().map(|archive| &archive.set));
        let tells = |set: &&SetTree| set.data_files > 0 || set.definition_only;
        let dates: Option<Vec<DateTime>> = sets.filter(tells).map(|set| set.newest).collect();
        dates?.into_iter().max()
    }
}

/// The backup path could not be read.
#[derive(Debug, thiserror::Error)]
#[error("Cannot read BACKUP_PATH {}: {source}. Is it mounted?", path.display())]
pub struct InventoryError {
    path: PathBuf,
    source: vmstore::remove::FolderError,
}
