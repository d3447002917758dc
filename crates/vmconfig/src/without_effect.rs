//! Settings that name what this host does not have: a VM, a disk, a pattern that fits no name. Most often a name was misspelt, and
//! what was to be left out is backed up, or the reverse.

use std::collections::{BTreeMap, BTreeSet};

use vmplan::glob::Pattern;

use super::keys::{VM_CONSISTENCY, VM_EXCLUDE_DISKS, VM_POLICY, VM_TRIPWIRE};
use super::load::{Loaded, TRIM_EXCLUDE, Warning, said};
use super::stated::EXCLUDE_PATTERNS;

/// What settings may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNames {
    /// Every VM of the host.
    pub vms: Vec<String>,
    /// The disk targets of each of them. `None` when some could not be asked.
    pub disks: Option<BTreeMap<String, BTreeSet<String>>>,
}

impl Loaded {
    /// What names nothing that the host has.
    pub fn without_effect(&self, host: &HostNames) -> Vec<Warning> {
        let unknown_vms = self.vms_in_tables().filter(|(_, vm)| !host.vms.contains(vm));
        let unknown_vms = unknown_vms.map(|(table, vm)| {
            let key = format!("{table}[{vm}]");
            self.warning(&key, &format!("{key}: this host has no VM of that name"))
        });
        let fits_none = |pattern: &str| {
            let pattern = Pattern::new(pattern);
            !host.vms.iter().any(|vm| pattern.matches(vm))
        };
        let excluded = self.settings.exclude_patterns.iter().enumerate();
        let excluded = excluded.filter(|(_, pattern)| fits_none(pattern)).map(|(number, pattern)| {
            let key = format!("{EXCLUDE_PATTERNS}[{number}]");
            self.warning(&key, &format!("{EXCLUDE_PATTERNS}: {pattern:?} fits no VM of this host"))
        });
        let trim_file = self.dir.join(self.settings.text(TRIM_EXCLUDE).unwrap_or_default());
        let untrimmed = self.settings.trim_exclude.iter().filter(|pattern| fits_none(pattern));
        let untrimmed = untrimmed.map(|pattern| {
            Warning::name(format!("{}: {pattern:?} fits no VM of this host", trim_file.display()))
        });
        let disks = host.disks.iter().flat_map(|known| self.unknown_disks(known));
        unknown_vms.chain(excluded).chain(untrimmed).chain(disks).collect()
    }

    /// Whether some setting names disks, so that [`HostNames::disks`] is worth asking for.
    pub fn names_disks(&self) -> bool {
        let lists = self.disk_lists();
        !self.settings.vm_exclude_disks.is_empty() || lists.iter().any(|(_, targets)| !targets.is_empty())
    }

    fn disk_lists(&self) -> [(&'static str, &[String]); 2] {
        let settings = &self.settings;
        [
            ("VIRTNBD_EXCLUDE_DISKS", settings.exclude_disks.as_slice()),
            ("VIRTNBD_INCLUDE_DISKS", settings.include_disks.as_slice()),
        ]
    }

    fn unknown_disks(&self, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<Warning> {
        let lists = self.disk_lists().into_iter();
        let of_all = lists.flat_map(|(key, list)| list.iter().map(move |target| (key, target)));
        let of_all = of_all.filter(|(_, target)| !known.values().any(|disks| disks.contains(*target)));
        let of_all = of_all.map(|(key, target)| {
            self.warning(key, &format!("{key}: no VM of this host has a disk {target}"))
        });
        let by_vm = self.settings.vm_exclude_disks.iter();
        // A VM that is not there has its own warning.
        let of_vm = by_vm.filter_map(|(vm, list)| Some((vm, list, known.get(vm)?)));
        let of_vm = of_vm.flat_map(|(vm, list, disks)| {
            let unknown = list.as_slice().iter().filter(move |target| !disks.contains(*target));
            let key = format!("{VM_EXCLUDE_DISKS}[{vm}]");
            unknown.map(move |target| self.warning(&key, &format!("{key}: VM {vm} has no disk {target}")))
        });
        of_all.chain(of_vm).collect()
    }

    fn vms_in_tables(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let settings = &self.settings;
        let policies = settings.vm_policies.keys().map(|vm| (VM_POLICY, vm));
        let consistency = settings.vm_consistency.keys().map(|vm| (VM_CONSISTENCY, vm));
        let tripwire = settings.vm_tripwire.keys().map(|vm| (VM_TRIPWIRE, vm));
        let disks = settings.vm_exclude_disks.keys().map(|vm| (VM_EXCLUDE_DISKS, vm));
        policies.chain(consistency).chain(tripwire).chain(disks)
    }

    fn warning(&self, key: &str, what: &str) -> Warning {
        Warning::name(format!("{}: {what}", said(self.sources.get(key))))
    }
}
