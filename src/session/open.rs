//! A run that is ready to begin: connected, with its VMs and their folders.

use std::path::PathBuf;

use jiff::civil::Date;

use super::choose::choose;
use super::error::SessionError;
use super::layout::{self, Claim, LayoutError, Owners};
use super::settings::{self, Retries};
use crate::clock::Clock;
use crate::engine::VmTarget;
use crate::engine::settings::EngineSettings;
use crate::retention;
use vmconfig::Settings;
use vmconfig::value::RotationPolicy;
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
    known: Vec<String>,
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
            known: all.iter().map(|domain| domain.name().to_owned()).collect(),
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

    /// Whether this host has a VM of that name.
    pub fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|known| known == name)
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
