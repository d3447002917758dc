//! One domain's backup: observe → plan → journal → snapshot → extents → pipeline → commit.
//!
//! Must not live here: which level to take (`policy`), several domains, configuration, printing.

pub mod cancel;
pub mod commit;
pub mod copy;
pub mod domain;
mod error;
pub mod fail_point;
pub mod image;
pub mod look;
pub mod plan;
pub mod recovery;
mod report;
mod run;
pub mod settings;
pub mod snapshot;
pub mod watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::domain::outside::Outside;
pub use self::plan::disk_plan::{Caveat, DiskPlan, Treatment};
pub use error::{BackupError, NextStep, Trouble};
pub use report::{DiskReport, Method, Report};

use self::cancel::Cancel;
use self::commit::publish::PointFiles;
use self::commit::{archive, mend};
use self::copy::Shared;
use self::domain::disk;
use self::fail_point::FailPoints;
use self::image::qemu_nbd;
use self::look::observe::Observed;
use self::look::{image_state, observe};
use self::plan::{disk_plan, job, space};
use self::recovery::guard::{Guard, Places};
use self::recovery::journal::{ArchiveMove, Journal, JournalDir, Stop};
use self::recovery::owned::Owned;
use self::recovery::presence::Presence;
use self::recovery::{beneath, presence, recover};
use self::run::{live, offline};
use self::settings::EngineSettings;
use self::watch::Watch;
use crate::clock::Clock;
use crate::state::{Ownership, RemovedCheckpoints, StateDir, TrippedDisks, VmLock};
use vmconfig::value::Consistency;
use vmhost::guest::{self, Guest, Trimmed};
use vmhost::libvirt::{Domain, DomainState, Host};
use vmplan::rotation::Placement;
use vmplan::{Decision, Plan, UnseenChange};

/// How long the guard of a run that has just died is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// One domain and where its backups go.
#[derive(Clone)]
pub struct VmTarget {
    /// The domain.
    pub domain: Domain,
    /// Its folder below the backup path; also the name of its journal.
    pub folder: String,
    /// `BACKUP_PATH/VM`
    pub vm_dir: PathBuf,
    /// `BACKUP_PATH/VM/PERIOD`, or `BACKUP_PATH/VM` for a chain that does not end by date
    pub chain_dir: PathBuf,
    /// Which period that is.
    pub placement: Placement,
    /// What the last try of this run failed with, if a full can cure that.
    pub failed: Option<String>,
    /// What an increment of this run found, so that it was given up.
    pub unseen_change: Option<UnseenChange>,
}

/// Everything that the backups of a run share.
pub struct Engine {
    /// The daemon.
    pub host: Host,
    /// Settings.
    pub settings: EngineSettings,
    /// Threads and memory.
    pub shared: Shared,
    /// What tells this machine from others, for journals.
    pub machine_id: String,
    /// The guard of this process.
    pub guard: Guard,
    /// Where locks are kept.
    pub state: StateDir,
    /// Where journals are kept.
    pub journals: JournalDir,
    /// What time it is.
    pub clock: Clock,
    /// Places to die at, in tests.
    pub fail_points: FailPoints,
}

/// What is decided for a domain, without doing it.
#[derive(Debug)]
pub struct Preview {
    /// The decision.
    pub plan: Plan,
    /// An earlier run ended in the middle; its leftovers would be undone first.
    pub leftovers: bool,
    /// Why the backup would be refused.
    pub refused: Option<BackupError>,
    /// What would become of each disk.
    pub disks: Vec<DiskPlan>,
    /// What the domain uses and no backup holds.
    pub outside: Vec<Outside>,
    /// The setting by which the guest would be held still; `None` when it is shut off.
    pub consistency: Option<Consistency>,
    /// The guest has an agent that is connected, as far as libvirt knows.
    pub agent: bool,
}

/// Decides what a domain would get, and touches nothing.
pub fn preview(
    vm: &VmTarget,
    settings: &EngineSettings,
    backup_path: &std::path::Path,
) -> Result<Preview, BackupError> {
    let file = backup_path.join("_state/journal").join(format!("{}.json", vm.folder));
    let journal = Journal::read(&file)?;
    let observed =
        observe::observe(vm, settings, journal.as_ref().map(|j| j.id.as_str()), &Cancel::default())?;
    let plan = vmplan::plan_backup(&observed.seen);
    let disks = disk_plan::plan_disks(&observed, &plan.decision, settings.raw_disks);
    let name = vm.domain.name();
    let refused = match &plan.decision {
        Decision::Refuse(refusal) => Some(BackupError::refused(vm, refusal, &plan.why)),
        Decision::Copy { .. } if disks.iter().all(|disk| disk.skipped().is_some()) => {
            Some(job::no_disks(name, &disks))
        }
        Decision::Full { .. } | Decision::Incremental { .. } => {
            job::JobPlan::new(&observed, &disks, name).err()
        }
        Decision::Copy { .. } => {
            let mut wanted = image_state::wanted(&observed.disks, settings.raw_disks);
            wanted.find_map(|disk| qemu_nbd::refusal(vm.domain.host(), disk))
        }
        Decision::Skip => None,
    };
    let copies = matches!(plan.decision, Decision::Copy { .. }) || plan.start;
    let refused = refused.or_else(|| refuse_link(vm, &plan).err());
    let refused = refused.or_else(|| observed.in_use_elsewhere(vm, settings.raw_disks).filter(|_| copies));
    Ok(Preview {
        leftovers: journal.is_some(),
        refused,
        disks,
        outside: observed.facts.outside,
        consistency: observed.seen.active.then(|| settings.consistency_of(name)),
        agent: observed.facts.agent_channel,
        plan,
    })
}

impl Engine {
    /// Backs up one domain.
    ///
    /// On an error nothing of the chain has changed, the guest runs as before, and what could not be undone yet is in
    /// the journal for the next run.
    pub fn backup(&self, vm: &VmTarget, watch: &dyn Watch, cancel: &Cancel) -> Result<Report, BackupError> {
        let _lock = VmLock::take(&self.state, vm.domain.name(), LOCK_PATIENCE)?;
        let _present = self.tell_presence(vm.domain.uuid());
        let recovered = self.recover_locked(&vm.folder)?;
        let mut report = match self.back_up_locked(vm, watch, cancel) {
            Ok(report) => report,
            Err(error) => {
                let Some(trip) = error.trip() else { return Err(error) };
                let unseen_change = Some(self.unseen_change(vm, trip));
                if matches!(error, BackupError::LeftBehind { .. }) {
                    return Err(error);
                }
                tracing::warn!(vm = vm.domain.name(), "{error}. The increment is given up");
                self.back_up_locked(&VmTarget { unseen_change, ..vm.clone() }, watch, cancel)?
            }
        };
        report.recovered.splice(0..0, recovered);
        if matches!(report.plan.decision, Decision::Incremental { .. }) {
            if let Err(error) = TrippedDisks::of(&self.state, &vm.folder).forget() {
                tracing::warn!(vm = vm.domain.name(), "the note of disks that changed unseen stays: {error}");
            }
        }
        Ok(report)
    }

    /// Decides and does it.
    fn back_up_locked(
        &self,
        vm: &VmTarget,
        watch: &dyn Watch,
        cancel: &Cancel,
    ) -> Result<Report, BackupError> {
        tracing::debug!("observing {}", vm.domain.name());
        let observed = observe::observe(vm, &self.settings, None, cancel)?;
        let plan = vmplan::plan_backup(&observed.seen);
        let mut report = Report::new(plan.clone());
        refuse_link(vm, &plan)?;
        if plan.start {
            // Before it is started over an image that somebody else has; of a copy that is asked again.
            observed.in_use_elsewhere(vm, self.settings.raw_disks).map_or(Ok(()), Err)?;
            self.back_up_started(vm, watch, cancel, &mut report)?;
        } else {
            self.back_up_as_it_is(vm, (observed, plan), None, watch, cancel, &mut report)?;
        }
        Ok(report)
    }

    /// Carries out a plan. `started` is what is owned of a domain that was started for it.
    fn back_up_as_it_is(
        &self,
        vm: &VmTarget,
        (mut observed, mut plan): (Observed, Plan),
        started: Option<&mut Owned<'_>>,
        watch: &dyn Watch,
        cancel: &Cancel,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        let mut mended = plan.repairs.iter().map(ToString::to_string).collect();
        if let Err(error) = mend::mend(vm, &plan.repairs) {
            tracing::warn!(vm = vm.domain.name(), "{error}; a full is taken instead");
            let failed = Some(error.to_string());
            observed = observe::observe(&VmTarget { failed, ..vm.clone() }, &self.settings, None, cancel)?;
            plan = vmplan::plan_backup(&observed.seen);
            mended = vec![];
        }
        tracing::debug!("planned {}: {:?}, {}", vm.domain.name(), plan.decision, plan.why);
        report.plan = plan.clone();
        report.recovered.append(&mut mended);
        let before = &observed.seen.chain;
        report.points_before = if before.is_copy { 1 } else { before.points.len() };
        report.warnings.extend(plan.notes.iter().map(ToString::to_string));
        report.damaged = observed.marked_corrupt();
        report.every_disk = disk_plan::plan_disks(&observed, &plan.decision, self.settings.raw_disks);
        match &plan.decision {
            Decision::Skip => report.points = report.points_before,
            Decision::Refuse(refusal) => return Err(BackupError::refused(vm, refusal, &plan.why)),
            Decision::Full { .. } | Decision::Incremental { .. } => {
                let guest = ask_guest(vm, &observed, cancel, report);
                let guest = guest.as_ref();
                report.trimmed = guest.and_then(|guest| self.trim(guest, cancel));
                self.prepare_target(vm, &observed, &plan)?;
                let (observed, plan) = (&observed, &plan);
                let live = live::Live { engine: self, vm, observed, plan, watch, cancel, guest };
                match started {
                    Some(owned) => live.run_started(owned, report)?,
                    None => live.run(report)?,
                }
                // libvirt has the checkpoints of this chain now, and no others.
                if let Err(error) = RemovedCheckpoints::of(&self.state, &vm.folder).forget() {
                    tracing::warn!(vm = vm.domain.name(), "the note of removed checkpoints stays: {error}");
                }
            }
            Decision::Copy { .. } => {
                self.prepare_target(vm, &observed, &plan)?;
                let (observed, plan) = (&observed, &plan);
                offline::Offline { engine: self, vm, observed, plan, watch, cancel }.run(report)?;
            }
        }
        Ok(())
    }

    /// Undoes what a run that died left of the domain with this folder, unless another run has it. Returns what was done.
    pub fn recover(&self, folder: &str) -> Result<Vec<String>, BackupError> {
        // The lock goes by the VM's name, which the journal knows.
        let Some(journal) = Journal::read(&self.journals.file(folder))? else { return Ok(vec![]) };
        let _lock = VmLock::take(&self.state, &journal.domain, LOCK_PATIENCE)?;
        let _present = self.tell_presence(&journal.uuid);
        self.recover_locked(folder)
    }

    /// Tells guards of earlier runs that the VM is ours now.
    fn tell_presence(&self, uuid: &str) -> Option<Presence> {
        Presence::tell(&presence::file(&self.state, uuid))
    }

    fn recover_locked(&self, folder: &str) -> Result<Vec<String>, BackupError> {
        let file = self.journals.file(folder);
        let Some(journal) = Journal::read(&file)? else { return Ok(vec![]) };
        let here = journal.host.is_empty() || journal.host == self.machine_id;
        if journal.uri != self.host.uri() || !here {
            return Err(BackupError::OtherHost { domain: journal.domain, uri: journal.uri, file });
        }
        let recovered = recover::undo(&journal, &file, &self.host);
        if recovered.still_frozen {
            let places = self.places(folder, &journal.domain, &journal.uuid);
            tracing::warn!(vm = journal.domain, "{}", self.guard.free_late(&journal, &places));
        }
        if recovered.resumed && journal.pid == std::process::id() {
            tracing::warn!(vm = journal.domain, "{}", self.guard.keep(&journal));
        }
        if !recovered.failed.is_empty() {
            return Err(BackupError::Recovery { domain: journal.domain, failed: recovered.failed });
        }
        // A try before in this process may have left it. A pause or a freeze that failed may be late.
        let _ = self.guard.release(&journal.id, recovered.freed || journal.stop == Stop::None);
        Journal::remove(&file)?;
        let mut done = recovered.done;
        done.insert(0, format!("an earlier run (process {}) ended in the middle", journal.pid));
        if recovered.committed {
            done.push("its backup was complete and is kept".to_owned());
        }
        Ok(done)
    }

    /// Creates the chain directory and makes sure that there is room, before the guest is touched.
    fn prepare_target(&self, vm: &VmTarget, observed: &Observed, plan: &Plan) -> Result<(), BackupError> {
        let dir = &vm.chain_dir;
        let failed = |doing, source| BackupError::File { doing, path: dir.clone(), source };
        let backup_path = vm.vm_dir.parent().unwrap_or(&vm.vm_dir);
        Ownership::make_like_state(backup_path, &vm.vm_dir).map_err(|e| failed("create", e))?;
        std::fs::create_dir_all(dir).map_err(|e| failed("create", e))?;
        let space = space::of(dir).map_err(|e| failed("look at the free space of", e))?;
        let data = self.forecast_data(vm, observed, plan)?;
        let needed = data / 1000 * space::history_ratio_permille(observed.set.as_ref());
        let reserve = self.settings.target_reserve.bytes_of(space.total_bytes);
        if space.free_bytes >= needed.saturating_add(reserve) {
            return Ok(());
        }
        Err(BackupError::TargetSpace {
            dir: dir.clone(),
            needed: space::human(needed),
            reserve: space::human(reserve),
            free: space::human(space.free_bytes),
        })
    }

    /// Bytes of data that a backup will read: what is allocated, or what changed since the last checkpoint.
    fn forecast_data(&self, vm: &VmTarget, observed: &Observed, plan: &Plan) -> Result<u64, BackupError> {
        let allocated = |disk: &observe::ReadableDisk| disk.info.allocated_bytes;
        let Decision::Incremental { parent, .. } = &plan.decision else {
            let raw = self.settings.raw_disks;
            let wanted = observed.disks.iter().filter(|d| raw || d.format == disk::ImageFormat::Qcow2);
            return Ok(wanted.map(allocated).sum());
        };
        let changed = vm.domain.checkpoint_sizes(&parent.to_string()).unwrap_or_default();
        let of = |disk: &observe::ReadableDisk| {
            let known = changed.iter().find(|(target, _)| *target == disk.target);
            known.map_or(allocated(disk), |(_, bytes)| (*bytes).min(disk.info.virtual_size))
        };
        Ok(observed.disks.iter().filter(|d| d.format == disk::ImageFormat::Qcow2).map(of).sum())
    }

    /// Has the guest give back unused blocks, where that is wanted and can be.
    fn trim(&self, guest: &Guest<'_>, cancel: &Cancel) -> Option<Trimmed> {
        let settings = self.settings.trim.as_ref()?;
        let domain = guest.agent.domain();
        if let Some(pattern) = self.settings.trim_exclude.iter().find(|p| p.matches(domain.name())) {
            tracing::info!(vm = domain.name(), "not trimmed: FSTRIM_EXCLUDE_FILE excludes it by {pattern}");
            return None;
        }
        let xml = domain.xml(false).ok()?;
        Some(guest::trim(guest, &xml, settings, &|| cancel.stopped().is_some()))
    }

    /// Writes the journal and tells the guard.
    fn own(&self, vm: &VmTarget, journal: Journal) -> Result<Owned<'_>, BackupError> {
        let places = self.places(&vm.folder, vm.domain.name(), vm.domain.uuid());
        Owned::begin(journal, places, &self.guard)
    }

    fn places(&self, folder: &str, domain: &str, uuid: &str) -> Places {
        Places {
            journal: self.journals.file(folder),
            lock: self.state.vm_lock(domain),
            presence: presence::file(&self.state, uuid),
        }
    }

    /// Publishes a complete point, the chain in its way going to the archive first.
    fn publish(
        &self,
        vm: &VmTarget,
        plan: &Plan,
        files: &PointFiles,
        owned: &mut Owned<'_>,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        self.fail_points.at("files-written");
        let dir = &vm.chain_dir;
        let failed = |doing, source| BackupError::File { doing, path: dir.clone(), source };
        let archive = match plan.decision {
            Decision::Full { archive: true } | Decision::Copy { archive: true } => {
                let names = archive::entries(dir).map_err(|e| failed("list", e))?;
                files.make_way(&names)?;
                let today = self.clock.local().date();
                let to = archive::claim(dir, today).map_err(|e| failed("make an archive folder in", e))?;
                Some(ArchiveMove { to, names })
            }
            _ => {
                files.make_way(&[])?;
                None
            }
        };
        owned.set_stage(files.stage(archive.clone()))?;
        self.fail_points.at("publishing");
        files.publish(archive.as_ref(), &|name| self.fail_points.at(name))?;
        self.fail_points.at("published");
        report.archived_to = archive.map(|a| a.to);
        Ok(())
    }

    /// A name for one backup, unique on this host.
    fn next_id(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u32;
        format!("{}-{nanos:08x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Refuses a target that a run which dies could not be undone in: what a journal names is not reached through links.
fn refuse_link(vm: &VmTarget, plan: &Plan) -> Result<(), BackupError> {
    let writes = !matches!(plan.decision, Decision::Skip | Decision::Refuse(_));
    let backup_path = vm.vm_dir.parent().unwrap_or(&vm.vm_dir);
    match beneath::link_in(backup_path, &vm.chain_dir) {
        Some((link, to)) if writes => {
            let to = backup_path.join(to);
            Err(BackupError::Link { link, to })
        }
        _ => Ok(()),
    }
}

/// The guest, if it runs and its agent answers. One that hangs is said once, and not asked again in this run.
fn ask_guest<'a>(
    vm: &'a VmTarget,
    observed: &Observed,
    cancel: &Cancel,
    report: &mut Report,
) -> Option<Guest<'a>> {
    let running = vm.domain.state().is_ok_and(|state| state == DomainState::Running);
    if !running || !observed.facts.agent_channel {
        return None;
    }
    match Guest::ask(&vm.domain, &|| cancel.stopped().is_some()) {
        Ok(guest) => {
            report.os.clone_from(&guest.os);
            report.file_systems.clone_from(&guest.file_systems);
            Some(guest)
        }
        Err(error) => {
            report.warnings.push(format!(
                "the guest agent is connected and cannot be relied on ({error}); the guest is backed up without it"
            ));
            None
        }
    }
}

/// The result of a thread; its panic goes on in the caller.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does work on each item, on so many at once, in their order. What it came to has that order too.
fn some_at_once<T: Send, R: Send>(
    count: usize,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items: Vec<T> = items.into_iter().collect();
    let workers = count.min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let serve = || std::iter::from_fn(|| take().map(|(place, item)| (place, work(item)))).collect();
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| -> Vec<_> { serve() })).collect();
        workers.into_iter().flat_map(joined).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, one)| one).collect()
}

/// Runs a backup so that a panic in it becomes an error, and everything is undone as after any other.
fn contained<T>(run: impl FnOnce() -> Result<T, BackupError>) -> Result<T, BackupError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(BackupError::Panicked { message })
    })
}
