//! The VMs of a backup path, several at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use serde::Serialize;
use vmplan::retention::PeriodId;
use vmstore::remove::{Folder, FolderError};
use vmstore::{SetDir, Store, VmDir};
use vmstream::chain::DiskTarget;

use super::files::{SetFiles, SetKind};

/// Threads that wait for the disk; more than processors, because a network file system answers late.
const MIN_THREADS: usize = 4;

/// The VMs there are backups of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// By the names of their folders.
    pub vms: Vec<VmListing>,
    /// What could not be read. What it holds is unknown.
    pub unreadable: Vec<String>,
}

/// The backups of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmListing {
    /// The name of its folder.
    pub vm: String,
    /// Bytes on the disk of everything in the folder, as `du -s` counts; `None` where that cannot be read.
    pub used_bytes: Option<u64>,
    /// Of the set that was written last.
    pub kind: SetKind,
    /// Of all sets but archived ones.
    pub points: usize,
    /// Archived chains.
    pub archives: usize,
    /// Of the newest point of the set that was written last.
    pub disks: Vec<String>,
    /// That set is of a VM with a TPM.
    pub tpm: bool,
    /// The newest name first. None where chains do not end by date.
    pub periods: Vec<String>,
}

/// Lists the VMs of a backup path: folders without anything of a set are none.
pub fn vms(root: &Path) -> Listing {
    let (mut dirs, mut listing) = (Vec::new(), Listing::default());
    for vm in Store::open(root).vms() {
        match vm {
            Ok(dir) => dirs.push(dir),
            Err(error) => listing.unreadable.push(error.to_string()),
        }
    }
    let (next, found) = (AtomicUsize::new(0), Mutex::new(listing));
    let threads = thread::available_parallelism().map_or(MIN_THREADS, |n| n.get().max(MIN_THREADS));
    thread::scope(|scope| {
        for _ in 0..threads.min(dirs.len()) {
            scope.spawn(|| {
                while let Some(dir) = dirs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (vm, unreadable) = of_vm(root, dir);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.vms.extend(vm);
                    found.unreadable.extend(unreadable);
                }
            });
        }
    });
    let mut listing = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    listing.vms.sort_by(|one, other| one.vm.cmp(&other.vm));
    listing.unreadable.sort();
    listing
}

fn of_vm(root: &Path, dir: &VmDir) -> (Option<VmListing>, Vec<String>) {
    let (mut points, mut archives, mut periods, mut unreadable) = (0, 0, BTreeSet::new(), Vec::new());
    let mut newest: Option<(Option<SystemTime>, SetFiles)> = None;
    for set in dir.sets() {
        let set = match set {
            Ok(set) => set,
            Err(error) => {
                unreadable.push(error.to_string());
                continue;
            }
        };
        if set.is_leftover() {
            continue;
        }
        if set.archived {
            archives += usize::from(is_chain(&set));
            continue;
        }
        let files = SetFiles::of(&set.folder);
        let is_period = set.inner.as_deref().is_some_and(|name| PeriodId::of_folder(name).is_some());
        if !files.has_data() && !is_period {
            continue;
        }
        points += files.points();
        periods.extend(set.inner.clone());
        if newest
            .as_ref()
            .is_none_or(|(at, known)| (known.has_data(), *at) <= (files.has_data(), files.newest))
        {
            newest = Some((files.newest, files));
        }
    }
    if newest.is_none() && archives == 0 {
        return (None, unreadable);
    }
    let used = Folder::backup_path(root).and_then(|root| root.child(dir.folder().as_ref())?.used_bytes());
    let used_bytes = match used {
        Ok(bytes) => Some(bytes),
        Err(FolderError::Gone(_)) => None,
        Err(error) => {
            unreadable.push(error.to_string());
            None
        }
    };
    let last = newest.map(|(_, files)| files).unwrap_or_default();
    let vm = VmListing {
        vm: dir.folder().to_owned(),
        used_bytes,
        kind: last.kind(),
        points,
        archives,
        disks: last.newest_disks().map(DiskTarget::to_string).collect(),
        tpm: last.tpm,
        periods: periods.into_iter().rev().collect(),
    };
    (Some(vm), unreadable)
}

/// Other folders may lie among archived chains.
fn is_chain(set: &SetDir) -> bool {
    set.folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"chain-"))
}
