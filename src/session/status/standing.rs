//! What libvirt, the database and the disk know of one VM.

use std::time::Duration;

use jiff::{Timestamp, Zoned};

use super::known::KnownVm;
use super::{left_out, leftovers};
use crate::catalog::{Catalog, ChainFolder, PastRun, chains_of};
use crate::session::folder_bytes::FolderBytes;
use vmplan::RotationPolicy;
use vmplan::rotation::{Period, Policies};
use vmreport::{Fault, Health, LastRun, NewestChain, RunResult, VmStanding};
use vmstore::{StateDir, VmDir, VmLock};

/// What is looked at for each VM.
pub(super) struct Looks<'a> {
    pub(super) state: &'a StateDir,
    pub(super) policies: &'a Policies,
    pub(super) catalog: &'a Catalog,
    /// Raw disks are saved.
    pub(super) raw_disks: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) now: &'a Zoned,
}

/// What the newest restore point is that can be restored.
#[derive(Default)]
struct Restorable {
    /// There is one.
    is_there: bool,
    taken: Option<Timestamp>,
    /// It is the newest of all: what came later is not damaged.
    is_newest: bool,
}

impl Looks<'_> {
    pub(super) fn standing(&self, vm: &KnownVm<'_>) -> VmStanding {
        let mut problems = Vec::new();
        let mut told = |what: &str, error: &dyn std::fmt::Display| problems.push(format!("{what}: {error}"));
        let history = "history is not known";
        let recorded = self.catalog.last_success(&vm.name).unwrap_or_else(|error| {
            told(history, &error);
            None
        });
        let recorded_at = recorded.as_ref().and_then(|last| last.at);
        // What is wrong with the database has been said.
        let last_run = self.catalog.last_run(&vm.name).ok().flatten();
        let failures = self.catalog.failures_since_success(&vm.name).unwrap_or_default();
        let on_disk = restorable(vm);
        let chain = vm.chain.as_ref();
        match chain {
            Some(chain) => problems.extend(chain.damage.iter().cloned()),
            None if recorded.is_some() => problems.push(format!(
                "the database has a backup, but {} holds none outside its archives",
                vm.folder.path().display()
            )),
            None => {}
        }
        let (folder_bytes, archives_bytes) = bytes(&vm.folder);
        let left_out = vm.domain.map_or(Ok(vec![]), |domain| left_out::disks(domain, chain, self.raw_disks));
        let left_out = left_out.unwrap_or_else(|error| {
            problems.push(format!("its disks are not known: {error}"));
            vec![]
        });
        let mut standing = VmStanding {
            vm: vm.name.clone(),
            defined: vm.is_asked.then_some(vm.domain.is_some()),
            policy: self.policies.of(&vm.name).0,
            at_work_pid: VmLock::look(self.state, &vm.name),
            health: health(chain, failures.count),
            last_success: recorded_at.max(on_disk.taken),
            failed_tries: failures.count,
            last_error: failures.last,
            age: self.age(&on_disk, recorded_at, last_run.as_ref()),
            last_run: last_run.as_ref().map(|run| LastRun { at: run.at, result: result_of(run) }),
            next_period: None,
            chain: chain.map(newest_chain),
            folder_bytes,
            archives_bytes,
            left_out,
            leftovers: leftovers::of(self.state, &vm.folder),
            problems,
            faults: vec![],
        };
        standing.next_period = Period::of(standing.policy, self.now.date()).map(Period::next_begin);
        standing.faults = self.faults(&standing, on_disk.is_there);
        standing
    }

    /// How old what can be restored is. A VM that a later run found unchanged is as it was then.
    fn age(
        &self,
        on_disk: &Restorable,
        recorded: Option<Timestamp>,
        last_run: Option<&PastRun>,
    ) -> Option<Duration> {
        if !on_disk.is_there {
            return None;
        }
        let unchanged = last_run.filter(|run| on_disk.is_newest && result_of(run) == RunResult::Unchanged);
        // A copy without streams tells no date of its own.
        let taken = on_disk.taken.or(recorded);
        let then = taken.max(unchanged.and_then(|run| run.at))?;
        Some(Duration::try_from(self.now.timestamp().duration_since(then)).unwrap_or_default())
    }

    /// What somebody must see to. Nobody can back up a VM that is not there, and nobody wants one that is excluded.
    fn faults(&self, vm: &VmStanding, is_restorable: bool) -> Vec<Fault> {
        if vm.policy == RotationPolicy::Never || vm.defined == Some(false) {
            return vec![];
        }
        if !is_restorable {
            return vec![Fault::NoRestorablePoint];
        }
        let is_old = self.max_age.is_some_and(|limit| vm.age.is_none_or(|age| age > limit));
        let old = is_old.then_some(Fault::TooOld);
        old.into_iter().chain((!vm.left_out.is_empty()).then_some(Fault::DiskInNoBackup)).collect()
    }
}

/// Looks into older chains and archives only where the newest chain has none.
fn restorable(vm: &KnownVm<'_>) -> Restorable {
    let newest = |chain: &ChainFolder| {
        let (position, point) = chain.points.iter().enumerate().rfind(|(_, point)| point.restorable)?;
        let taken = point.taken.map(|(at, _)| at);
        Some(Restorable { is_there: true, taken, is_newest: position + 1 == chain.points.len() })
    };
    vm.chain.as_ref().and_then(newest).unwrap_or_else(|| {
        let older = chains_of(&vm.folder).iter().filter_map(newest).max_by_key(|found| found.taken);
        older.map_or_else(Restorable::default, |found| Restorable { is_newest: false, ..found })
    })
}

fn health(chain: Option<&ChainFolder>, failed_tries: u64) -> Health {
    match chain {
        None => Health::NoBackup,
        Some(chain) if chain.restorable() < chain.points.len() || !chain.damage.is_empty() => Health::Damaged,
        Some(_) if failed_tries > 0 => Health::Failing,
        Some(_) => Health::Good,
    }
}

fn result_of(run: &PastRun) -> RunResult {
    use crate::catalog::{BackupType, VmStatus};
    match run.status {
        VmStatus::Success => RunResult::Success,
        VmStatus::Failed => RunResult::Failed,
        VmStatus::Excluded => RunResult::Excluded,
        VmStatus::Skipped if run.backup_type == BackupType::Unchanged.word() => RunResult::Unchanged,
        VmStatus::Skipped => RunResult::Skipped,
    }
}

fn newest_chain(chain: &ChainFolder) -> NewestChain {
    NewestChain {
        period: chain.period.clone(),
        folder: chain.folder.clone(),
        points: chain.points.len(),
        restorable: chain.restorable(),
        bytes: chain.bytes(),
    }
}

/// All bytes of a VM's folder, and those of its archives.
fn bytes(vm: &VmDir) -> (u64, u64) {
    if vm.path().is_symlink() {
        return (0, 0);
    }
    let periods = vm.places().flatten().filter(|set| set.inner.is_some());
    let archives: u64 = periods.map(|set| FolderBytes::of(&set.folder).archives()).sum();
    let own = FolderBytes::of(vm.path());
    (own.all(), own.archives() + archives)
}
