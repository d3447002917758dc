//! What lies in each VM's folder and how many bytes, several VMs at once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::FileType;
use vmplan::retention::PeriodId;

use super::date::Names;
use super::sound;
use super::{ArchiveTree, Inventory, InventoryError, Leftover, PeriodTree, SetTree, Unreadable, VmTree};
use crate::retention::place::ARCHIVES;
use vmstore::layout::DELETING;
use vmstore::remove::{Entry, Folder, FolderError, SeenFiles};
use vmstore::{folder_name, inventory};

/// Threads that wait for the disk; more than processors, because a network file system answers late.
const MIN_THREADS: usize = 4;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Names and sizes.
    Sizes,
    /// Also which sets are in doubt: the streams and sidecars of sets of several disks are opened.
    Doubts,
    /// Also the dates of the data: one stream of each set is opened.
    Dates,
}

/// Reads a backup path: all folders that are VMs' (`is_vm_folder`).
///
/// # Errors
/// When the path itself cannot be listed. What cannot be read below it is in the inventory as such.
pub fn read(backup_path: &Path, look: Look) -> Result<Inventory, InventoryError> {
    let failed = |source| InventoryError { path: backup_path.to_owned(), source };
    let root = Folder::backup_path(backup_path).map_err(failed)?;
    let listed: io::Result<Vec<PathBuf>> = inventory::vm_dirs(backup_path).collect();
    let vm_dirs = listed.map_err(|error| failed(FolderError::system("list", backup_path, error)))?;
    let names: Vec<&str> = vm_dirs.iter().filter_map(|dir| dir.file_name()?.to_str()).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Inventory::default());
    let threads = thread::available_parallelism().map_or(MIN_THREADS, |n| n.get().max(MIN_THREADS));
    thread::scope(|scope| {
        for _ in 0..threads.min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let vm = walk_vm(&root, name, look);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.vms.extend(vm.vms);
                    found.unreadable.extend(vm.unreadable);
                    found.leftovers.extend(vm.leftovers);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.vms.sort_by(|one, other| one.folder.cmp(&other.folder));
    found.unreadable.sort_by(|one, other| one.vm.cmp(&other.vm));
    Ok(found)
}

/// Reads the backups of one VM: none when it has no period.
///
/// # Errors
/// As [`read`].
pub fn read_vm(backup_path: &Path, folder: &str, look: Look) -> Result<Inventory, InventoryError> {
    let root = Folder::backup_path(backup_path)
        .map_err(|source| InventoryError { path: backup_path.to_owned(), source })?;
    Ok(walk_vm(&root, folder, look))
}

/// The inventory of one VM.
fn walk_vm(root: &Folder, name: &str, look: Look) -> Inventory {
    let mut walk = Walk {
        look,
        vm: name,
        unreadable: vec![],
        leftovers: vec![],
        domains: BTreeSet::new(),
        seen: SeenFiles::new(),
    };
    let vm = walk.seen_or_missed(root.child(OsStr::new(name))).and_then(|folder| walk.vm(&folder));
    let vm_name = vm.as_ref().map_or(name, VmTree::name).to_owned();
    let leftover = |(archives_of, name)| Leftover {
        vm: walk.vm.to_owned(),
        vm_name: vm_name.clone(),
        archives_of,
        name,
    };
    let leftovers = walk.leftovers.into_iter().map(leftover).collect();
    let vms = vm.filter(|vm| !vm.periods.is_empty()).into_iter().collect();
    Inventory { vms, unreadable: walk.unreadable, leftovers }
}

/// The way through the folder of one VM.
struct Walk<'a> {
    look: Look,
    vm: &'a str,
    unreadable: Vec<Unreadable>,
    /// Folders that were being deleted, and in the archives of which period.
    leftovers: Vec<(Option<PeriodId>, String)>,
    domains: BTreeSet<String>,
    seen: SeenFiles,
}

/// A folder's files, and the folders in it that are still to be looked at.
struct Contents {
    names: Names,
    files_bytes: u64,
    folders: Vec<Entry>,
}

impl Walk<'_> {
    /// What could not be read is noted, unless it was removed while we look.
    fn seen_or_missed<T>(&mut self, result: Result<T, FolderError>) -> Option<T> {
        match result {
            Ok(seen) => return Some(seen),
            Err(FolderError::Gone(_)) => {}
            Err(error) => self.unreadable.push(Unreadable { vm: self.vm.to_owned(), why: error.to_string() }),
        }
        None
    }

    fn bytes(&mut self, folder: &Folder, entry: &Entry) -> u64 {
        let bytes = folder.survey_entry(entry, &mut self.seen);
        self.seen_or_missed(bytes).unwrap_or_default()
    }

    fn own_bytes(&mut self, folder: &Folder) -> u64 {
        self.seen_or_missed(folder.own_bytes()).unwrap_or_default()
    }

    fn contents(&mut self, folder: &Folder) -> Option<Contents> {
        let entries = self.seen_or_missed(folder.entries())?;
        let mut contents = Contents { names: Names::default(), files_bytes: 0, folders: Vec::new() };
        for entry in entries {
            if entry.kind == FileType::Directory {
                contents.folders.push(entry);
                continue;
            }
            contents.files_bytes += self.bytes(folder, &entry);
            if let Some(name) = entry.name.to_str().filter(|_| entry.kind == FileType::RegularFile) {
                contents.names.take(name);
            }
        }
        Some(contents)
    }

    fn describe(&mut self, names: &Names, folder: &Folder) -> SetTree {
        self.domains.extend(names.lists().iter().cloned());
        let set = names.describe((self.look == Look::Dates).then(|| folder.path()));
        let asked = self.look == Look::Doubts && names.may_be_doubtful();
        SetTree { doubtful: asked && sound::worth(folder.path()) == sound::Worth::Doubtful, ..set }
    }

    fn vm(&mut self, folder: &Folder) -> Option<VmTree> {
        let here = self.contents(folder)?;
        let mut size_bytes = self.own_bytes(folder);
        let mut periods = Vec::new();
        let (mut flat_bytes, mut archives, mut archives_bytes) = (here.files_bytes, vec![], 0);
        for entry in &here.folders {
            let name = entry.name.to_str().unwrap_or_default();
            if let Some(id) = PeriodId::of_folder(name) {
                let inner = self.seen_or_missed(folder.child(&entry.name));
                periods.extend(inner.and_then(|inner| self.period(id, &inner)));
            } else if name == ARCHIVES {
                (archives, archives_bytes) = self.archives(folder, &PeriodId::accumulate());
            } else if matches!(name, "checkpoints" | "config" | "tpm-state") {
                flat_bytes += self.bytes(folder, entry);
            } else {
                size_bytes += self.bytes(folder, entry);
                if name.starts_with(DELETING) {
                    self.leftovers.push((None, name.to_owned()));
                }
            }
        }
        flat_bytes += archives_bytes;
        size_bytes += flat_bytes + periods.iter().map(|period: &PeriodTree| period.size_bytes).sum::<u64>();
        if here.names.is_set() || !archives.is_empty() {
            let active = self.describe(&here.names, folder);
            let id = PeriodId::accumulate();
            periods.push(PeriodTree { id, size_bytes: flat_bytes, active, archives, archives_bytes });
        }
        periods.sort_by(|one, other| one.id.cmp(&other.id));
        let mut domains = std::mem::take(&mut self.domains).into_iter();
        let domain = domains.find(|name| folder_name(name) == self.vm);
        Some(VmTree { folder: self.vm.to_owned(), domain, size_bytes, periods })
    }

    fn period(&mut self, id: PeriodId, folder: &Folder) -> Option<PeriodTree> {
        let here = self.contents(folder)?;
        let mut size_bytes = here.files_bytes + self.own_bytes(folder);
        let (mut archives, mut archives_bytes) = (vec![], 0);
        for entry in &here.folders {
            if entry.name == ARCHIVES {
                (archives, archives_bytes) = self.archives(folder, &id);
            } else {
                size_bytes += self.bytes(folder, entry);
            }
        }
        size_bytes += archives_bytes;
        let active = self.describe(&here.names, folder);
        Some(PeriodTree { id, size_bytes, active, archives, archives_bytes })
    }

    /// The archived chains in a folder, and the bytes of the archive folder with everything in it.
    fn archives(&mut self, folder: &Folder, period: &PeriodId) -> (Vec<ArchiveTree>, u64) {
        let inner = folder.child(OsStr::new(ARCHIVES)).and_then(|inner| Ok((inner.entries()?, inner)));
        let Some((entries, inner)) = self.seen_or_missed(inner) else { return (vec![], 0) };
        let (mut chains, mut bytes) = (Vec::new(), self.own_bytes(&inner));
        for entry in &entries {
            match entry.name.to_str().filter(|_| entry.kind == FileType::Directory) {
                Some(name) if name.starts_with("chain-") => chains.extend(self.archive(name, &inner)),
                other => {
                    bytes += self.bytes(&inner, entry);
                    let leftover = other.filter(|name| name.starts_with(DELETING)).map(str::to_owned);
                    self.leftovers.extend(leftover.map(|name| (Some(period.clone()), name)));
                }
            }
        }
        chains.sort_by(|one, other| one.name.cmp(&other.name));
        bytes += chains.iter().map(|chain| chain.size_bytes).sum::<u64>();
        (chains, bytes)
    }

    fn archive(&mut self, name: &str, archives: &Folder) -> Option<ArchiveTree> {
        let folder = self.seen_or_missed(archives.child(OsStr::new(name)))?;
        let here = self.contents(&folder)?;
        let mut size_bytes = here.files_bytes + self.own_bytes(&folder);
        for entry in &here.folders {
            size_bytes += self.bytes(&folder, entry);
        }
        let set = self.describe(&here.names, &folder);
        Some(ArchiveTree { name: name.to_owned(), size_bytes, set })
    }
}
