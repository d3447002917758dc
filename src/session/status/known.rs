//! Which VMs there are: those that libvirt knows, and those that have backups.

use std::collections::BTreeMap;

use super::SeenDomain;
use crate::catalog::{ChainFolder, newest_chain};
use vmstore::{Store, VmDir};

/// A VM, its folder and its newest chain.
pub(super) struct KnownVm<'a> {
    pub(super) name: String,
    pub(super) folder: VmDir,
    pub(super) chain: Option<ChainFolder>,
    /// `None` when libvirt does not know it.
    pub(super) domain: Option<&'a SeenDomain>,
    /// Whether libvirt was asked, and answered.
    pub(super) is_asked: bool,
}

/// The VMs, by name.
pub(super) struct KnownVms<'a> {
    pub(super) vms: Vec<KnownVm<'a>>,
    /// Folders that could not be listed.
    pub(super) unlisted: Vec<String>,
}

pub(super) fn known_vms<'a>(store: &Store, domains: Option<&'a [SeenDomain]>) -> KnownVms<'a> {
    let mut vms: BTreeMap<String, VmDir> = BTreeMap::new();
    for domain in domains.into_iter().flatten() {
        vms.insert(domain.name.clone(), store.vm_of(&domain.name));
    }
    let mut chains: BTreeMap<VmDir, ChainFolder> = BTreeMap::new();
    let mut unlisted = Vec::new();
    for folder in store.vms() {
        let folder = match folder {
            Ok(folder) => folder,
            Err(error) => {
                unlisted.push(error.to_string());
                continue;
            }
        };
        let Some(chain) = newest_chain(&folder) else { continue };
        if !vms.values().any(|known| *known == folder) {
            vms.insert(chain.vm.clone(), folder.clone());
        }
        chains.insert(folder, chain);
    }
    let known = |(name, folder): (String, VmDir)| {
        let chain = chains.get(&folder).cloned();
        let domain = domains.into_iter().flatten().find(|domain| domain.name == name);
        KnownVm { name, folder, chain, domain, is_asked: domains.is_some() }
    };
    KnownVms { vms: vms.into_iter().map(known).collect(), unlisted }
}
