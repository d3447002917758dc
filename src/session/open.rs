//! A run that is ready to begin: connected, with its VMs and their folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::civil::Date;

use super::choose::choose;
use super::error::SessionError;
use super::layout::{self, Claim, LayoutError, Owners};
use super::settings::{self, Retries};
use crate::clock::Clock;
use crate::engine::VmTarget;
use crate::engine::domain::disk::Disks;
use crate::engine::domain::facts::parse_domain;
use crate::engine::settings::EngineSettings;
use crate::retention;
use vmconfig::value::RotationPolicy;
use vmconfig::{HostNames, Loaded, Settings, Warning};
use vmhost::libvirt::{Domain, Host};
use vmplan::rotation::Policies;

/// A run that is ready to begin.
pub struct Session {
    pub(super) host: Host,
    pub(super) backup_path: PathBuf,
    pub(super) settings: EngineSettings,
    pub(super) policies: Policies,
    pub(super) parallel: usize,
    pub(super) retries: Retries,
    pub(super) bytes_per_second: u64,
    pub(super) retention: retention::Rules,
    /// How many versions of the host's own configuration are kept; `None` when it is not saved.
    pub(super) host_config_keep: Option<usize>,
    pub(super) owners: Owners,
    pub(super) chosen: Vec<Domain>,
    /// Every VM of this host.
    all: Vec<Domain>,
    pub(super) machine_id: String,
    pub(super) clock: Clock,
    /// The day the run began: all VMs of a run are in the same period.
    pub(super) today: Date,
}

impl Session {
    /// Connects and finds the domains. The backup path must have passed [`check_backup_path`](super::check_backup_path).
    ///
    /// `names` empty means all of them; each may be a list with commas.
    ///
    /// `machine_id` tells this machine from others.
    pub fn open(
        settings: &Settings,
        names: &[String],
        clock: Clock,
        machine_id: &str,
    ) -> Result<Self, SessionError> {
        let backup_path = settings.backup_path.as_path().to_owned();
        let failed = |source| SessionError::Libvirt { source };
        let host = Host::connect(settings.libvirt_uri.as_str()).map_err(failed)?;
        let all = host.domains().map_err(failed)?;
        let chosen = choose(&all, names)?;
        let policies = settings::policies(settings);
        let claim = |domain: &Domain| Claim {
            name: domain.name().to_owned(),
            uuid: domain.uuid().to_owned(),
            excluded: policies.of(domain.name()).0 == RotationPolicy::Never,
        };
        let owners = Owners::new(all.iter().map(claim), layout::folds_case(&backup_path));
        Ok(Self {
            host,
            backup_path,
            settings: settings::engine(settings),
            policies,
            parallel: settings.parallel_vms.get() as usize,
            retries: Retries::of(settings),
            retention: retention::rules(settings),
            bytes_per_second: settings.target_bandwidth.bytes(),
            host_config_keep: settings
                .host_config_backup
                .on
                .then(|| usize::try_from(settings.host_config_keep.get()).unwrap_or(usize::MAX)),
            owners,
            all,
            chosen,
            machine_id: machine_id.to_owned(),
            clock,
            today: clock.local().date(),
        })
    }

    /// The domains of this run.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.chosen.iter().map(Domain::name)
    }

    /// What settings may name, for those that name nothing.
    pub fn without_effect(&self, loaded: &Loaded) -> Vec<Warning> {
        let vms = self.all.iter().map(|domain| domain.name().to_owned()).collect();
        let disks = loaded.names_disks().then(|| self.disk_targets()).flatten();
        loaded.without_effect(&HostNames { vms, disks })
    }

    /// The disk targets of each VM, as it runs and as it is defined. `None` when one could not be read.
    fn disk_targets(&self) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let of = |domain: &Domain| {
            let mut targets = BTreeSet::new();
            for inactive in [false, true] {
                let Disks { readable, skipped } = parse_domain(&domain.xml(inactive).ok()?).ok()?.disks;
                targets.extend(readable.into_iter().map(|disk| disk.target));
                targets.extend(skipped.into_iter().map(|disk| disk.target));
            }
            Some((domain.name().to_owned(), targets))
        };
        self.all.iter().map(of).collect()
    }

    /// The folders of a domain. `None` for a policy without backups.
    pub(super) fn place(
        &self,
        domain: &Domain,
        policy: RotationPolicy,
    ) -> Result<Option<VmTarget>, LayoutError> {
        layout::place(domain, &self.owners, &self.backup_path, policy, self.today)
    }
}
