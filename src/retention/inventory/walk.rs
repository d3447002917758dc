//! What lies in each VM's folder and how many bytes, several VMs at once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::FileType;
use vmplan::retention::PeriodId;
use vmstream::chain::{PointId, SetFile};

use super::date::Names;
use super::sound;
use super::{ArchiveTree, Inventory, InventoryError, Leftover, PeriodTree, SetTree, Unreadable, VmTree};
use crate::engine::domain::xml;
use crate::retention::place::ARCHIVES;
use vmstore::layout::{TPM_STATE, is_of_storage};
use vmstore::remove::{Entry, Folder, FolderError, SeenFiles};
use vmstore::{SetDir, Store, Unlisted, VmDir, folder_name};

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

/// Reads a backup path: all folders that are VMs'.
///
/// # Errors
/// When the path itself cannot be listed. What cannot be read below it is in the inventory as such.
pub fn read(store: &Store, look: Look) -> Result<Inventory, InventoryError> {
    let failed = |source| InventoryError { path: store.path().to_owned(), source };
    let root = Folder::backup_path(store.path()).map_err(failed)?;
    let listed: Result<Vec<VmDir>, Unlisted> = store.vms().collect();
    let vms = listed.map_err(|error| failed(FolderError::system("list", &error.path, error.source)))?;
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Inventory::default());
    let threads = thread::available_parallelism().map_or(MIN_THREADS, |n| n.get().max(MIN_THREADS));
    thread::scope(|scope| {
        for _ in 0..threads.min(vms.len()) {
            scope.spawn(|| {
                while let Some(vm) = vms.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let vm = walk_vm(&root, vm, look);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.vms.extend(vm.vms);
                    found.unreadable.extend(vm.unreadable);
                    found.leftovers.extend(vm.leftovers);
                    found.of_storage.extend(vm.of_storage);
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
pub fn read_vm(store: &Store, vm: &VmDir, look: Look) -> Result<Inventory, InventoryError> {
    let root = Folder::backup_path(store.path())
        .map_err(|source| InventoryError { path: store.path().to_owned(), source })?;
    Ok(walk_vm(&root, vm, look))
}

/// The inventory of one VM.
fn walk_vm(root: &Folder, vm: &VmDir, look: Look) -> Inventory {
    let mut walk = Walk {
        look,
        vm,
        unreadable: vec![],
        leftovers: vec![],
        of_storage: vec![],
        domains: BTreeSet::new(),
        seen: SeenFiles::new(),
    };
    let tree = walk.seen_or_missed(root.child(OsStr::new(vm.folder()))).map(|folder| walk.tree(&folder));
    let vm_name = tree.as_ref().map_or(vm.folder(), VmTree::name).to_owned();
    let leftover = |(archives_of, name)| Leftover {
        vm: vm.folder().to_owned(),
        vm_name: vm_name.clone(),
        archives_of,
        name,
    };
    let leftovers = walk.leftovers.into_iter().map(leftover).collect();
    let vms = tree.filter(|vm| !vm.periods.is_empty()).into_iter().collect();
    Inventory { vms, unreadable: walk.unreadable, of_storage: walk.of_storage, leftovers }
}

/// The way through the folder of one VM.
struct Walk<'a> {
    look: Look,
    vm: &'a VmDir,
    unreadable: Vec<Unreadable>,
    /// Folders that were being deleted, and in the archives of which period.
    leftovers: Vec<(Option<PeriodId>, String)>,
    of_storage: Vec<PathBuf>,
    domains: BTreeSet<String>,
    seen: SeenFiles,
}

/// Folders in a VM's folder that belong to the chain beside them.
const OF_FLAT_CHAIN: [&str; 3] = ["checkpoints", "config", TPM_STATE];

/// What a folder holds, but for archived chains.
#[derive(Default)]
struct Contents {
    names: Names,
    /// Without those of `.archives`.
    bytes: u64,
    has_archives: bool,
    /// Of `.archives`, without the chains in it.
    archives_bytes: u64,
}

impl Walk<'_> {
    /// What could not be read is noted once, unless it was removed while we look.
    fn seen_or_missed<T>(&mut self, result: Result<T, FolderError>) -> Option<T> {
        match result {
            Ok(seen) => return Some(seen),
            Err(FolderError::Gone(_)) => {}
            Err(error) => self.note(error.to_string()),
        }
        None
    }

    fn note(&mut self, why: String) {
        if self.unreadable.iter().all(|known| known.why != why) {
            self.unreadable.push(Unreadable { vm: self.vm.folder().to_owned(), why });
        }
    }

    fn bytes(&mut self, folder: &Folder, entry: &Entry) -> u64 {
        let bytes = folder.survey_entry(entry, &mut self.seen);
        self.seen_or_missed(bytes).unwrap_or_default()
    }

    fn own_bytes(&mut self, folder: &Folder) -> u64 {
        self.seen_or_missed(folder.own_bytes()).unwrap_or_default()
    }

    /// Reads the names in a folder, and counts what is in it: also in the folders there that `counts` takes.
    fn contents(&mut self, folder: &Folder, counts: &dyn Fn(&OsStr) -> bool) -> Option<Contents> {
        let mut contents = Contents::default();
        for entry in self.seen_or_missed(folder.entries())? {
            if entry.kind == FileType::Directory {
                if entry.name == ARCHIVES {
                    contents.has_archives = true;
                    contents.archives_bytes = self.archives_bytes(folder);
                } else if is_of_storage(&entry.name) {
                    self.of_storage.push(folder.path().join(&entry.name));
                } else if counts(&entry.name) {
                    contents.bytes += self.bytes(folder, &entry);
                }
                continue;
            }
            contents.bytes += self.bytes(folder, &entry);
            if let Some(name) = entry.name.to_str().filter(|_| entry.kind == FileType::RegularFile) {
                contents.names.take(name);
            }
        }
        Some(contents)
    }

    /// The bytes of the archive folder with what is no archived chain in it.
    fn archives_bytes(&mut self, holder: &Folder) -> u64 {
        let archives = holder.child(OsStr::new(ARCHIVES)).and_then(|inner| Ok((inner.entries()?, inner)));
        let Some((entries, archives)) = self.seen_or_missed(archives) else { return 0 };
        let is_chain = |entry: &Entry| entry.kind == FileType::Directory && is_chain_name(&entry.name);
        let others = entries.iter().filter(|entry| !is_chain(entry));
        self.own_bytes(&archives) + others.map(|entry| self.bytes(&archives, entry)).sum::<u64>()
    }

    fn describe(&mut self, names: &Names, folder: &Folder) -> SetTree {
        match names.lists() {
            // A copy has no list.
            [] if names.has_definition_of_copy() => self.domains.extend(domain_of_copy(folder.path())),
            lists => self.domains.extend(lists.iter().cloned()),
        }
        let set = names.describe(folder.path(), self.look == Look::Dates);
        let asked = self.look == Look::Doubts && names.may_be_doubtful();
        SetTree { doubtful: asked && sound::worth(folder.path()) == sound::Worth::Doubtful, ..set }
    }

    fn tree(&mut self, folder: &Folder) -> VmTree {
        let mut size_bytes = self.own_bytes(folder);
        let (mut periods, mut flat_bytes, mut flat_of_vm) = (Vec::new(), 0, None);
        for place in self.vm.places() {
            let Some(place) = self.listed(place) else { continue };
            if place.is_leftover() && place.period().is_none() {
                self.leftovers.push((None, name_of(&place).to_string_lossy().into_owned()));
            }
            match place.period() {
                Some(id) if place.inner.is_some() => {
                    let inner = self.seen_or_missed(folder.child(name_of(&place)));
                    periods.extend(inner.and_then(|inner| self.period(id, &inner, &place, folder)));
                }
                Some(id) => {
                    let Some(here) = self.contents(folder, &|_| false) else { continue };
                    flat_bytes += here.bytes;
                    let archives = self.archives(&here, &place, folder);
                    let is_there = here.names.is_set() || !archives.is_empty();
                    let flat = self.period_of(id, folder, here, flat_bytes, archives);
                    size_bytes += flat.size_bytes;
                    flat_of_vm = Some(flat).filter(|_| is_there);
                }
                None => {
                    let name = name_of(&place);
                    let entry = Entry { name: name.to_owned(), kind: FileType::Directory };
                    let counted = match OF_FLAT_CHAIN.iter().any(|of_chain| name == *of_chain) {
                        true => &mut flat_bytes,
                        false => &mut size_bytes,
                    };
                    *counted += self.bytes(folder, &entry);
                }
            }
        }
        size_bytes += periods.iter().map(|period: &PeriodTree| period.size_bytes).sum::<u64>();
        periods.extend(flat_of_vm);
        periods.sort_by(|one, other| one.id.cmp(&other.id));
        let mut domains = std::mem::take(&mut self.domains).into_iter();
        let domain = domains.find(|name| folder_name(name) == self.vm.folder());
        VmTree { folder: self.vm.folder().to_owned(), domain, size_bytes, periods }
    }

    /// What could not be listed is noted.
    fn listed(&mut self, set: Result<SetDir, Unlisted>) -> Option<SetDir> {
        set.map_err(|error| self.note(error.to_string())).ok()
    }

    /// The archived chains beside a set, in a period's folder or the VM's own.
    fn archives(&mut self, here: &Contents, place: &SetDir, vm: &Folder) -> Vec<ArchiveTree> {
        let mut archives = Vec::new();
        // Asked of those alone that have some: a large tree has a hundred thousand periods.
        for set in here.has_archives.then(|| place.archives()).into_iter().flatten() {
            let Some(set) = self.listed(set) else { continue };
            if set.is_leftover() {
                self.leftovers.push((set.period(), name_of(&set).to_string_lossy().into_owned()));
            }
            archives.extend(self.archive(&set, vm));
        }
        archives
    }

    fn period(&mut self, id: PeriodId, folder: &Folder, place: &SetDir, vm: &Folder) -> Option<PeriodTree> {
        let here = self.contents(folder, &|_| true)?;
        let archives = self.archives(&here, place, vm);
        let bytes = here.bytes + self.own_bytes(folder);
        Some(self.period_of(id, folder, here, bytes, archives))
    }

    /// `bytes` are those of everything in it but the archives.
    fn period_of(
        &mut self,
        id: PeriodId,
        folder: &Folder,
        here: Contents,
        bytes: u64,
        archives: Vec<ArchiveTree>,
    ) -> PeriodTree {
        let chains: u64 = archives.iter().map(|chain| chain.size_bytes).sum();
        let archives_bytes = here.archives_bytes + chains;
        let active = self.describe(&here.names, folder);
        PeriodTree { id, size_bytes: bytes + archives_bytes, active, archives, archives_bytes }
    }

    /// An archived chain. `None` for another folder among them.
    fn archive(&mut self, set: &SetDir, vm: &Folder) -> Option<ArchiveTree> {
        let name = name_of(set).to_str().filter(|name| is_chain_name(name))?;
        let below = set.folder.strip_prefix(self.vm.path()).ok()?;
        let folder = self.seen_or_missed(vm.descend(below.components()))?;
        let here = self.contents(&folder, &|_| true)?;
        let size_bytes = here.bytes + here.archives_bytes + self.own_bytes(&folder);
        let set = self.describe(&here.names, &folder);
        Some(ArchiveTree { name: name.to_owned(), size_bytes, set })
    }
}

fn name_of(set: &SetDir) -> &OsStr {
    set.folder.file_name().unwrap_or_default()
}

/// The name in the definition that was kept with a copy.
fn domain_of_copy(folder: &Path) -> Option<String> {
    let file = folder.join(SetFile::VmConfig(PointId::Copy).to_string());
    xml::name(&fs::read_to_string(file).ok()?)
}

/// The name of a folder of an archived chain.
fn is_chain_name(name: impl AsRef<OsStr>) -> bool {
    name.as_ref().as_encoded_bytes().starts_with(b"chain-")
}
