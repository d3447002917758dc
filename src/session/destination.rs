//! Where a VM's backups go: its period, and the folder of the chain.

use crate::engine::VmTarget;
use vmreport::Destination;

/// The place that a VM was given in this run.
pub(super) fn of(vm: &VmTarget) -> Destination {
    Destination {
        period: vm.placement.period.clone(),
        dir: vm.chain_dir.clone(),
        previous_period: vm.placement.previous.clone(),
    }
}
