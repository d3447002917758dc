//! How each VM stands: from libvirt, the database and the disk, without touching anything and without a lock.
//!
//! `known` finds the VMs there are, `standing` what is known of each, `left_out` the disks that no backup has, `leftovers` what is no
//! backup, `running` the session that is under way. What was found is one value, [`vmreport::StatusReport`].
//! Must not live here: printing (`vmreport`, `cli`).

mod known;
mod left_out;
mod leftovers;
mod running;
mod standing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Zoned;

use super::choose::names_in;
use super::settings::policies;
use crate::catalog::Catalog;
use crate::engine::domain::disk::Disks;
use crate::engine::domain::facts::parse_domain;
use known::known_vms;
use standing::Looks;
use vmconfig::Settings;
use vmconfig::value::DiskTargets;
use vmhost::libvirt::Domain;
use vmreport::StatusReport;
use vmstore::Store;

/// A domain that libvirt knows.
pub struct SeenDomain {
    name: String,
    /// Its disks as they are defined now, or why that is not known.
    disks: Result<Disks, String>,
}

impl SeenDomain {
    /// Asks libvirt for its disks, and leaves out those that the settings leave out.
    pub fn of(domain: &Domain, settings: &Settings) -> Self {
        let xml = domain.xml(false).map_err(|error| error.to_string());
        let mut disks = xml.and_then(|xml| parse_domain(&xml).map_err(|error| error.to_string()));
        if let Ok(facts) = &mut disks {
            let of_vm = settings.vm_exclude_disks.get(domain.name()).map_or(&[][..], DiskTargets::as_slice);
            facts.disks.select(settings.include_disks.as_slice(), settings.exclude_disks.as_slice(), of_vm);
        }
        Self { name: domain.name().to_owned(), disks: disks.map(|facts| facts.disks) }
    }
}

/// Tells of the VMs that libvirt knows and of those that have backups, by name.
///
/// `domains` is `None` when libvirt does not answer. `list` is a list with commas; without one all of them are meant.
///
/// # Errors
/// The first name of the list that nobody knows.
pub fn status(
    settings: &Settings,
    catalog: &Catalog,
    domains: Option<&[SeenDomain]>,
    list: Option<&str>,
    max_age: Option<Duration>,
    now: &Zoned,
) -> Result<StatusReport, String> {
    let store = Store::open(settings.backup_path.as_path());
    let found = known_vms(&store, domains);
    let exists = |name: &str| found.vms.iter().any(|vm| vm.name == name);
    let names = list.map(|list| (list, names_in(list, &exists)));
    if let Some((list, names)) = &names {
        let unknown = names.iter().find(|name| !exists(name)).copied();
        // Commas alone name nobody.
        if let Some(unknown) = unknown.or_else(|| names.is_empty().then_some(*list)) {
            return Err(unknown.to_owned());
        }
    }
    let is_chosen = |name: &str| names.as_ref().is_none_or(|(_, names)| names.contains(&name));
    let policies = policies(settings);
    let raw_disks = settings.backup_raw_disks.on;
    let looks = Looks { state: &store.state(), policies: &policies, catalog, raw_disks, max_age, now };
    let chosen = found.vms.iter().filter(|vm| is_chosen(&vm.name));
    Ok(StatusReport {
        at: now.timestamp(),
        max_age,
        running: running::session(&store.state()),
        vms: chosen.map(|vm| looks.standing(vm)).collect(),
        not_served: vec![],
        unknown: found.unlisted,
    })
}
