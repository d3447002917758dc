//! What retention asks of the database and tells it.
use strum::{IntoStaticStr, VariantArray};
use vmplan::retention::{PeriodId, Replica, Why};

use super::inventory::{ArchiveTree, VmTree};
use super::place::Place;
use vmstore::remove::FolderError;

/// The database as retention sees it: what it knows of periods, and where removals are written down. It may be lost: then nothing is known to be free, and nothing is recorded.
pub trait RetentionLog: Sync {
    /// True when a period may not be deleted; `None` when that cannot be asked.
    fn protected(&self, vm: &str, period: &PeriodId) -> Option<bool>;

    /// The replica of a period.
    fn replica(&self, vm: &str, period: &PeriodId) -> Replica;

    /// Records what happened. Of a removal this is told after its folder was renamed and before it is deleted; it may
    /// be told again when that was interrupted.
    fn record(&self, event: &RemovalEvent<'_>);
}

/// Who wants something removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Initiator {
    /// More periods than the policy keeps.
    Retention,
    /// A period of an earlier policy is old.
    Orphan,
    /// A person.
    Prune,
}

/// What is to be removed, and under which numbers.
#[derive(Clone, Debug)]
pub struct PlannedRemoval {
    /// Where it stands.
    pub place: Place,
    /// Who wants it.
    pub initiator: Initiator,
    /// Bytes of everything in it.
    pub size_bytes: u64,
    /// The chains in it: what stands in a period itself first.
    pub chains: Vec<RemovedChain>,
    /// Whole days since its newest point, where that is known.
    pub age_days: Option<i64>,
    /// The number it was judged by: periods kept, or the highest age in days.
    pub limit: Option<u64>,
    /// Periods the VM had.
    pub periods: Option<usize>,
}

/// A chain that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedChain {
    /// Its name in the archives; `None` when it stands in the period itself.
    pub archive: Option<String>,
    /// Bytes of everything in it.
    pub size_bytes: u64,
    pub points: u32,
}

impl PlannedRemoval {
    /// Something of a VM, with the sizes of the inventory.
    pub fn of(vm: &VmTree, place: Place, initiator: Initiator) -> Self {
        let period = vm.period(&place.period);
        let chain = |archive: &ArchiveTree| RemovedChain {
            archive: Some(archive.name.clone()),
            size_bytes: archive.size_bytes,
            points: archive.set.points,
        };
        let wanted = |archive: &&ArchiveTree| place.archive.as_ref().is_none_or(|name| *name == archive.name);
        let mut chains: Vec<RemovedChain> =
            period.into_iter().flat_map(|p| &p.archives).filter(wanted).map(chain).collect();
        let mut size_bytes = chains.iter().map(|chain| chain.size_bytes).sum();
        if let Some(period) = period.filter(|_| place.archive.is_none()) {
            let (active_bytes, points) =
                (period.size_bytes.saturating_sub(period.archives_bytes), period.active.points);
            chains.insert(0, RemovedChain { archive: None, size_bytes: active_bytes, points });
            size_bytes = period.size_bytes;
        }
        let periods = Some(vm.periods.len());
        Self { place, initiator, size_bytes, chains, age_days: None, limit: None, periods }
    }

    /// Restore points in all of it.
    pub fn points(&self) -> u64 {
        self.chains.iter().map(|chain| u64::from(chain.points)).sum()
    }
}

/// Something that happened to a period or an archived chain.
#[derive(Debug)]
pub struct RemovalEvent<'a> {
    /// The domain's name.
    pub vm: &'a str,
    /// What it happened to.
    pub removal: &'a PlannedRemoval,
    pub path: &'a std::path::Path,
    pub what: RemovalOutcome<'a>,
}

#[derive(Debug)]
pub enum RemovalOutcome<'a> {
    Removed,
    /// A guard held it back.
    Kept(Why),
    /// It could not be removed.
    Failed(&'a FolderError),
}

impl Initiator {
    /// A word of letters.
    pub fn word(self) -> &'static str {
        self.into()
    }
}
