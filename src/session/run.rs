//! A run over many domains, several at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::civil::Date;

use super::layout::{self, Claim, LayoutError, Owners};
use super::order;
use super::plan::{Outlook, VmPlan};
use super::record::{Records, VmEnd};
use super::settings::Retries;
use super::tidy::Tidy;
use super::tries;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::engine::cancel::Cancel;
use crate::engine::copy::budget::Budget;
use crate::engine::copy::rate::Rate;
use crate::engine::copy::{Compressors, DISKS_OF_RUN, Shared};
use crate::engine::fail_point::FailPoints;
use crate::engine::recovery::guard::Guard;
use crate::engine::recovery::journal::JournalDir;
use crate::engine::settings::EngineSettings;
use crate::engine::watch::Watch;
use crate::engine::{self, BackupError, Engine, Report, VmTarget};
use crate::retention;
use crate::state::{StateDir, folder_name};
use vmconfig::Settings;
use vmconfig::value::RotationPolicy;
use vmhost::libvirt::{Domain, DomainState, Host, LibvirtError};
use vmplan::Decision;
use vmplan::rotation::{ChosenBy, Policies};

/// Bytes of frames on their way, for the whole run: with their compressed forms and the output buffers the program
/// stays well below 256 MiB.
const FRAME_BUDGET: u64 = 80 << 20;

/// Domains that are planned for at the same time.
const PLANNERS: usize = 4;

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The backup path is not there.
    #[error(
        "BACKUP_PATH {} does not exist. It is never created by a run, because an unmounted disk would be filled beside: \
         mount it, or create the directory once", .0.display()
    )]
    NoBackupPath(PathBuf),
    /// The backup path is not a directory.
    #[error("BACKUP_PATH {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A directory cannot be written.
    #[error("Cannot write to {what} {}: {source}", path.display())]
    NotWritable {
        /// Which setting.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// libvirt does not answer.
    #[error(
        "{source}. Is the libvirt daemon running (systemctl status libvirtd), and may this user connect to it?"
    )]
    Libvirt {
        /// What it said.
        source: LibvirtError,
    },
    /// A domain that was asked for does not exist.
    #[error("VM '{name}' does not exist on this host. Known: {}", known.join(", "))]
    UnknownVm {
        /// Its name.
        name: String,
        /// The names that do.
        known: Vec<String>,
    },
    /// The engine could not be set up.
    #[error("{0}")]
    Engine(#[from] BackupError),
}

/// Hears of a run: of each domain, and of the disks of each domain.
pub trait RunWatch: Sync {
    /// A domain's backup begins. What is returned hears of its disks.
    fn vm_begin(&self, domain: &str) -> Box<dyn Watch>;
    /// A domain's backup ended.
    fn vm_end(&self, outcome: &VmOutcome);
    /// The log that a domain has for itself, from [`vm_begin`](Self::vm_begin) to [`vm_end`](Self::vm_end).
    fn log_file(&self, _domain: &str) -> Option<PathBuf> {
        None
    }
}

/// How a domain's backup ended.
#[derive(Debug)]
pub enum VmResult {
    /// Well. Nothing was copied when it was skipped.
    Done(Box<Report>),
    /// Not.
    Failed(BackupError),
    /// It cannot have a folder.
    NoFolder(LayoutError),
    /// Its policy is `never`, because of this.
    Excluded(ChosenBy),
    /// Not begun: the run was asked to stop.
    NotBegun,
}

/// Where a domain's backups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The period, as the database names it.
    pub period: String,
    /// The folder of its chain.
    pub dir: PathBuf,
    /// The period before it.
    pub previous: Option<String>,
}

/// One domain of a run.
#[derive(Debug)]
pub struct VmOutcome {
    /// Its name.
    pub domain: String,
    /// Its rotation policy.
    pub policy: RotationPolicy,
    /// Where its backups go; `None` when it has no folder.
    pub place: Option<Place>,
    /// How it ended.
    pub result: VmResult,
    /// How long it took.
    pub took: Duration,
    /// How many tries there were.
    pub tries: u32,
    /// What became of older periods; `None` when nothing was backed up.
    pub retention: Option<retention::Report>,
}

impl VmOutcome {
    /// Whether there should be a restore point, and is none.
    pub fn is_failed(&self) -> bool {
        matches!(self.result, VmResult::Failed(_) | VmResult::NoFolder(_) | VmResult::NotBegun)
    }
}

/// A run that is ready to begin.
pub struct Session {
    pub(super) host: Host,
    pub(super) backup_path: PathBuf,
    settings: EngineSettings,
    policies: Policies,
    parallel: usize,
    retries: Retries,
    bytes_per_second: u64,
    retention: retention::Rules,
    /// How many versions of the host's own configuration are kept; `None` when it is not saved.
    pub(super) host_config_keep: Option<usize>,
    owners: Owners,
    chosen: Vec<Domain>,
    machine_id: String,
    pub(super) clock: Clock,
    /// The day the run began: all VMs of a run are in the same period.
    today: Date,
}

impl Place {
    pub(super) fn of(vm: &VmTarget) -> Self {
        Self {
            period: vm.placement.period.clone(),
            dir: vm.chain_dir.clone(),
            previous: vm.placement.previous.clone(),
        }
    }
}

impl Session {
    /// Connects and finds the domains. The backup path must have passed [`check_backup_path`].
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
        let policies = super::settings::policies(settings);
        let claim = |domain: &Domain| Claim {
            name: domain.name().to_owned(),
            uuid: domain.uuid().to_owned(),
            excluded: policies.of(domain.name()).0 == RotationPolicy::Never,
        };
        let owners = Owners::new(all.iter().map(claim), layout::folds_case(&backup_path));
        Ok(Self {
            host,
            backup_path,
            settings: super::settings::engine(settings),
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

    /// What the run would do to each domain. Touches nothing. Several at once: most of it is waiting for disks.
    pub fn plan(&self, catalog: &Catalog) -> Vec<VmPlan> {
        let records = Records { catalog, session: None };
        let plan = |domain: &Domain| {
            let (policy, chosen_by) = self.policies.of(domain.name());
            let outlook = match self.place(domain, policy) {
                Ok(Some(vm)) => match engine::preview(&vm, &self.settings, &self.backup_path) {
                    Ok(preview) => {
                        let writes = !matches!(preview.plan.decision, Decision::Skip | Decision::Refuse(_));
                        let retention = writes.then(|| self.tidy(&vm).preview(records)).flatten();
                        Outlook::Backup { place: Place::of(&vm), preview: Box::new(preview), retention }
                    }
                    Err(error) => Outlook::Unknown(error),
                },
                Ok(None) => Outlook::Excluded,
                Err(error) => Outlook::NoFolder(error),
            };
            VmPlan { domain: domain.name().to_owned(), policy, chosen_by, outlook }
        };
        let queue = Mutex::new(self.chosen.iter().enumerate());
        let plans: Mutex<Vec<(usize, VmPlan)>> = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..PLANNERS.min(self.chosen.len()) {
                scope.spawn(|| {
                    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    while let Some((index, domain)) = take() {
                        let planned = plan(domain);
                        plans.lock().unwrap_or_else(PoisonError::into_inner).push((index, planned));
                    }
                });
            }
        });
        in_order(plans)
    }

    /// Backs up every domain, several at once.
    pub fn run(
        &self,
        records: Records<'_>,
        fail_points: FailPoints,
        watch: &dyn RunWatch,
        cancel: &Cancel,
    ) -> Result<Vec<VmOutcome>, SessionError> {
        for (what, path) in
            [("BACKUP_PATH", &self.backup_path), ("VIRTNBD_SCRATCH_DIR", &self.settings.scratch_dir)]
        {
            check_writable(what, path)?;
        }
        let engine = self.engine(fail_points)?;
        let took = |vm: &str| Some(records.catalog.history(vm).ok()??.took);
        let order = order::longest_first(self.domains(), took);
        let queue: Mutex<VecDeque<(usize, &Domain)>> =
            Mutex::new(order.into_iter().map(|index| (index, &self.chosen[index])).collect());
        let outcomes: Mutex<Vec<(usize, VmOutcome)>> = Mutex::new(Vec::new());
        thread::scope(|scope| {
            // Beside the backups: the guard of a run that has just died, or another run, may hold its VM for a while.
            scope.spawn(|| self.recover_others(&engine));
            for _ in 0..self.parallel.clamp(1, self.chosen.len().max(1)) {
                scope.spawn(|| {
                    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    while let Some((index, domain)) = take() {
                        let outcome = self.back_up(&engine, domain, records, watch, cancel);
                        watch.vm_end(&outcome);
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
                    }
                });
            }
        });
        engine.guard.end();
        Ok(in_order(outcomes))
    }

    fn engine(&self, fail_points: FailPoints) -> Result<Engine, SessionError> {
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let shared = Shared {
            compressors: Arc::new(Compressors::start(threads, self.settings.method)),
            budget: Budget::new(FRAME_BUDGET),
            disks: Budget::new(DISKS_OF_RUN),
            rate: Arc::new(Rate::new(self.bytes_per_second)),
            stall_limit: self.settings.stall_limit,
        };
        Ok(Engine {
            host: self.host.clone(),
            settings: self.settings.clone(),
            shared,
            machine_id: self.machine_id.clone(),
            guard: Guard::start(self.host.uri()).map_err(BackupError::from)?,
            state: StateDir::of(&self.backup_path),
            journals: JournalDir::open(&self.backup_path).map_err(BackupError::from)?,
            clock: self.clock,
            fail_points,
        })
    }

    /// Sets free what a dead run left of domains that this run does not back up: not named, excluded, without a folder.
    fn recover_others(&self, engine: &Engine) {
        let is_backed_up =
            |domain: &&Domain| matches!(self.place(domain, self.policies.of(domain.name()).0), Ok(Some(_)));
        let backed_up: Vec<String> =
            self.chosen.iter().filter(is_backed_up).map(|d| folder_name(d.name())).collect();
        let left = engine.journals.left_behind().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            vec![]
        });
        for folder in left {
            if backed_up.contains(&folder) {
                continue;
            }
            match engine.recover(&folder) {
                Ok(done) => done.iter().for_each(|what| tracing::warn!(vm = folder, "{what}")),
                // Another run is at it.
                Err(BackupError::Lock(_)) => {}
                Err(error) => tracing::warn!(vm = folder, "{error}"),
            }
        }
    }

    fn tidy<'a>(&'a self, vm: &'a VmTarget) -> Tidy<'a> {
        Tidy { vm, backup_path: &self.backup_path, rules: &self.retention, clock: self.clock }
    }

    fn place(&self, domain: &Domain, policy: RotationPolicy) -> Result<Option<VmTarget>, LayoutError> {
        layout::place(domain, &self.owners, &self.backup_path, policy, self.today)
    }

    fn back_up(
        &self,
        engine: &Engine,
        domain: &Domain,
        records: Records<'_>,
        watch: &dyn RunWatch,
        cancel: &Cancel,
    ) -> VmOutcome {
        let since = Instant::now();
        let _span = tracing::info_span!("back_up", vm = domain.name()).entered();
        let state = state_word(domain);
        let policy_before = records.policy_before(domain.name());
        let (policy, chosen_by) = self.policies.of(domain.name());
        let target = self.place(domain, policy);
        let place = target.as_ref().ok().and_then(Option::as_ref).map(Place::of);
        let mut retention = None;
        let (result, tries) = match target {
            _ if cancel.stopped().is_some() => (VmResult::NotBegun, 0),
            Err(e) => (VmResult::NoFolder(e), 0),
            Ok(None) => (VmResult::Excluded(chosen_by), 0),
            Ok(Some(vm)) => {
                let disks = watch.vm_begin(domain.name());
                let once = |failed| engine.backup(&VmTarget { failed, ..vm.clone() }, disks.as_ref(), cancel);
                let (result, tries) = tries::until_well(domain.name(), self.retries, cancel, once);
                if result.as_ref().is_ok_and(|report| report.plan.decision != Decision::Skip) {
                    retention = self.tidy(&vm).after_success(engine, records);
                }
                (result.map_or_else(VmResult::Failed, |report| VmResult::Done(Box::new(report))), tries)
            }
        };
        let (domain, log_file) = (domain.name().to_owned(), watch.log_file(domain.name()));
        let outcome = VmOutcome { domain, policy, place, result, took: since.elapsed(), tries, retention };
        records.vm_end(&VmEnd { outcome: &outcome, state, log_file, policy_before, at: self.clock.now() });
        outcome
    }
}

/// What several threads came to, in the order of the domains.
fn in_order<T>(found: Mutex<Vec<(usize, T)>>) -> Vec<T> {
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, one)| one).collect()
}

/// The state of a domain in virsh's words.
fn state_word(domain: &Domain) -> &'static str {
    match domain.state() {
        Ok(DomainState::Running) => "running",
        Ok(DomainState::Paused) => "paused",
        Ok(DomainState::ShutOff) => "shut off",
        Ok(DomainState::Crashed | DomainState::Preserved) => "crashed",
        Ok(DomainState::ShuttingDown) => "in shutdown",
        Ok(DomainState::Unknown(_)) | Err(_) => "unknown",
    }
}

fn choose(all: &[Domain], names: &[String]) -> Result<Vec<Domain>, SessionError> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let find = |name: &str| {
        all.iter().find(|d| d.name() == name).cloned().ok_or_else(|| SessionError::UnknownVm {
            name: name.to_owned(),
            known: all.iter().map(|d| d.name().to_owned()).collect(),
        })
    };
    let exists = |name: &str| all.iter().any(|d| d.name() == name);
    let mut chosen: Vec<Domain> = Vec::new();
    for name in names.iter().flat_map(|list| names_in(list, &exists)) {
        let domain = find(name)?;
        if chosen.iter().all(|c| c.uuid() != domain.uuid()) {
            chosen.push(domain);
        }
    }
    Ok(chosen)
}

/// The names in `A,B`. A name may have commas of its own: the longest one that exists counts.
fn names_in<'a>(list: &'a str, exists: &dyn Fn(&str) -> bool) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut rest = Some(list);
    while let Some(text) = rest {
        let mut ends: Vec<usize> = text.match_indices(',').map(|(at, _)| at).chain([text.len()]).collect();
        let first = ends[0];
        ends.reverse();
        let end = ends.into_iter().find(|end| exists(&text[..*end])).unwrap_or(first);
        names.push(&text[..end]);
        rest = text.get(end + 1..);
    }
    names
}

/// Fails unless the backup path is a directory. It is never created.
pub fn check_backup_path(path: &Path) -> Result<(), SessionError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(SessionError::NotADirectory(path.to_owned())),
        Err(_) => Err(SessionError::NoBackupPath(path.to_owned())),
    }
}

fn check_writable(what: &'static str, path: &Path) -> Result<(), SessionError> {
    // Without a name, or under a random one that nobody can have taken before: everybody may write to a scratch directory.
    let tried = tempfile::tempfile_in(path);
    tried.map(drop).map_err(|source| SessionError::NotWritable { what, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_split_at_commas_that_are_not_part_of_a_name() {
        let cases: [(&str, &[&str]); 7] = [
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            ("a,b,c", &["a,b,c"]),
            ("b,a,b,c,a", &["b", "a,b,c", "a"]),
            (",x", &[",x"]),
            ("nobody,a", &["nobody", "a"]),
            ("a,", &["a", ""]),
        ];
        let exists = |name: &str| ["a", "b", "a,b,c", ",x"].contains(&name);
        for (list, want) in cases {
            assert_eq!(names_in(list, &exists), want, "{list:?}");
        }
    }
}
