//! What a run would do to each VM. Touches nothing.

use std::thread;

use super::at_once::AtOnce;
use super::cleanup::Cleanup;
use super::destination;
use super::open::Session;
use super::plan::{PlannedVm, VmPlan};
use super::record::Records;
use crate::catalog::Catalog;
use crate::engine;
use vmhost::libvirt::Domain;
use vmplan::Decision;

/// Domains that are planned for at the same time.
const PLANNERS: usize = 4;

impl Session {
    /// What the run would do to each domain. Touches nothing. Several at once: most of it is waiting for disks.
    pub fn plan(&self, catalog: &Catalog) -> Vec<VmPlan> {
        let records = Records { catalog, session: None, parts: None };
        let work = |domain: &Domain| self.plan_one(domain, records);
        let all = AtOnce::new(self.chosen.iter().enumerate());
        thread::scope(|scope| all.begin(scope, PLANNERS.min(self.chosen.len()), &work));
        all.in_order()
    }

    fn plan_one(&self, domain: &Domain, records: Records<'_>) -> VmPlan {
        let (policy, chosen_by) = self.policies.of(domain.name());
        let planned = match self.place(domain, policy) {
            Ok(Some(vm)) => match engine::preview(&vm, &self.settings, &self.backup_path) {
                Ok(preview) => {
                    let writes = !matches!(preview.plan.decision, Decision::Skip | Decision::Refuse(_));
                    let retention = writes.then(|| Cleanup::of(self, &vm).preview(records)).flatten();
                    let destination = destination::of(&vm);
                    PlannedVm::Backup { destination, preview: Box::new(preview), retention }
                }
                Err(error) => PlannedVm::Unknown(error),
            },
            Ok(None) => PlannedVm::Excluded,
            Err(error) => PlannedVm::NoFolder(error),
        };
        VmPlan { domain: domain.name().to_owned(), policy, chosen_by, planned }
    }
}
