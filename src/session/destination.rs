//! Where a VM's backups go: its period, and the folder of the chain.

use std::path::PathBuf;

use crate::engine::VmTarget;

/// Where a domain's backups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The period, as the database names it.
    pub period: String,
    /// The folder of its chain.
    pub dir: PathBuf,
    /// The period before it.
    pub previous: Option<String>,
}

impl Destination {
    pub(super) fn of(vm: &VmTarget) -> Self {
        Self {
            period: vm.placement.period.clone(),
            dir: vm.chain_dir.clone(),
            previous: vm.placement.previous.clone(),
        }
    }
}
