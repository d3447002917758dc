//! The retention log of a real run: rows of the database.

use std::collections::BTreeSet;
use vmplan::retention::{PeriodId, Replica, Why};

use super::retention_log::{Initiator, RemovalEvent, RemovalOutcome, RemovedChain, RetentionLog};
use crate::catalog::{
    Catalog, ChainEvent, ChainEventKind, FileOperation, FileType, Operation, PeriodEvent, PeriodEventKind,
    PreserveReason, Remover, RetentionAction, RetentionEvent, RetentionTarget, Stamp, VmPeriod,
};
use crate::retention::place::ARCHIVES;
use vmstore::folder_name;
use vmstore::remove::FolderError;

/// A VM's folder and one of its periods. By folder: what is on disk does not always tell the VM's exact name.
type FolderPeriod = (String, String);

/// A database, and what it said when it was asked once for all VMs.
pub struct CatalogLog<'a> {
    catalog: &'a Catalog,
    stamp: Stamp,
    protected: Option<BTreeSet<FolderPeriod>>,
    /// `None` where nothing was ever replicated.
    replicated: Option<BTreeSet<FolderPeriod>>,
}

impl<'a> CatalogLog<'a> {
    /// Asks the database; rows are written with this stamp. One that cannot be asked protects everything.
    pub fn new(catalog: &'a Catalog, stamp: Stamp) -> Self {
        let by_folder = |periods: BTreeSet<VmPeriod>| {
            periods.into_iter().map(|(vm, period)| (folder_name(&vm), period)).collect()
        };
        let protected = catalog.protected().ok().map(by_folder);
        let replicated = catalog.replicated().ok().flatten().map(by_folder);
        Self { catalog, stamp, protected, replicated }
    }

    fn removed(&self, event: &RemovalEvent<'_>) {
        let RemovalEvent { vm, removal, path, .. } = event;
        let (place, by) = (&removal.place, remover(removal.initiator));
        let period = place.period.as_str();
        for chain in &removal.chains {
            self.catalog.event(self.stamp, &chain_event(event, chain));
        }
        self.catalog.event(
            self.stamp,
            &FileOperation {
                bytes: removal.size_bytes,
                reason: removal.initiator.word().to_owned(),
                triggered_by: by.word().to_owned(),
                ..FileOperation::new(Operation::Delete, FileType::Directory, vm, path)
            },
        );
        self.retention(event, RetentionAction::Delete, None);
        if place.archive.is_some() {
            self.catalog.points_gone(path);
            return;
        }
        self.catalog.chain_removed(vm, period, path, by, self.stamp.at);
        let row = PeriodEvent {
            policy: Some(place.period.kind().policy()),
            chains: removal.chains.len() as u64,
            points: removal.points(),
            bytes: removal.size_bytes,
            remaining: removal.periods.map(|periods| (periods as u64).saturating_sub(1)),
            ..PeriodEvent::new(PeriodEventKind::Deleted, vm, period, path)
        };
        self.catalog.event(self.stamp, &row);
    }

    fn failed(&self, event: &RemovalEvent<'_>, error: &FolderError) {
        let reason = match error {
            FolderError::Link(_)
            | FolderError::Mount(_)
            | FolderError::OfStorage(_)
            | FolderError::Name { .. }
            | FolderError::TooDeep(_) => PreserveReason::UnsafePath,
            FolderError::Gone(_) | FolderError::OldKernel | FolderError::System { .. } => {
                PreserveReason::RemoveFailed
            }
        };
        self.retention(event, RetentionAction::Error, Some(reason));
        let operation = FileOperation::new(Operation::Delete, FileType::Directory, event.vm, event.path);
        let error = Some(error.to_string());
        let triggered_by = remover(event.removal.initiator).word().to_owned();
        self.catalog.event(self.stamp, &FileOperation { error, triggered_by, ..operation });
    }

    fn retention(&self, event: &RemovalEvent<'_>, action: RetentionAction, kept: Option<PreserveReason>) {
        let removal = event.removal;
        let target = match (&removal.place.archive, removal.initiator) {
            (Some(_), _) => RetentionTarget::ArchiveChain,
            (None, Initiator::Orphan) => RetentionTarget::OrphanPeriod,
            (None, Initiator::Retention | Initiator::Prune) => RetentionTarget::Period,
        };
        let what = (event.vm, removal.place.period.as_str());
        let row = RetentionEvent {
            policy: Some(removal.place.period.kind().policy()),
            limit: removal.limit,
            current: removal.periods.map(|periods| periods as u64),
            age_days: removal.age_days.and_then(|days| u64::try_from(days).ok()),
            freed_bytes: if action == RetentionAction::Delete { removal.size_bytes } else { 0 },
            kept,
            ..RetentionEvent::new(action, target, remover(removal.initiator), what, event.path)
        };
        self.catalog.event(self.stamp, &row);
    }
}

impl RetentionLog for CatalogLog<'_> {
    fn protected(&self, vm: &str, period: &PeriodId) -> Option<bool> {
        let key = (folder_name(vm), period.as_str().to_owned());
        self.protected.as_ref().map(|protected| protected.contains(&key))
    }

    fn replica(&self, vm: &str, period: &PeriodId) -> Replica {
        let key = (folder_name(vm), period.as_str().to_owned());
        match &self.replicated {
            None => Replica::NotUsed,
            Some(replicated) if replicated.contains(&key) => Replica::There,
            Some(_) => Replica::Missing,
        }
    }

    fn record(&self, event: &RemovalEvent<'_>) {
        match &event.what {
            RemovalOutcome::Removed => self.removed(event),
            RemovalOutcome::Kept(why) => self.retention(event, RetentionAction::Skip, preserve_reason(*why)),
            RemovalOutcome::Failed(error) => self.failed(event, error),
        }
    }
}

fn remover(initiator: Initiator) -> Remover {
    match initiator {
        Initiator::Retention => Remover::Retention,
        Initiator::Orphan => Remover::OrphanRetention,
        Initiator::Prune => Remover::Prune,
    }
}

fn preserve_reason(why: Why) -> Option<PreserveReason> {
    match why {
        Why::Protected | Why::ProtectionUnknown => Some(PreserveReason::Protected),
        Why::LastRestorable | Why::NothingRestorable | Why::LastPeriod => Some(PreserveReason::LastPeriod),
        Why::Doubtful => Some(PreserveReason::Doubtful),
        Why::NoReplica => Some(PreserveReason::Unreplicated),
        Why::Unreadable => Some(PreserveReason::UnsafePath),
        _ => None,
    }
}

fn chain_event(event: &RemovalEvent<'_>, chain: &RemovedChain) -> ChainEvent {
    let kind = match event.removal.initiator {
        Initiator::Retention | Initiator::Orphan => ChainEventKind::Deleted,
        Initiator::Prune => ChainEventKind::Purged,
    };
    let (place, path) = (&event.removal.place, event.path);
    let chain_id = chain.archive.clone().unwrap_or_default();
    let (backup_dir, location) = match &place.archive {
        // The archive folder's folder.
        Some(_) => (path.ancestors().nth(2).unwrap_or(path).to_owned(), path.to_owned()),
        None if chain_id.is_empty() => (path.to_owned(), path.to_owned()),
        None => (path.to_owned(), path.join(ARCHIVES).join(&chain_id)),
    };
    ChainEvent {
        chain_id,
        backup_dir,
        location,
        points: chain.points.into(),
        bytes: chain.size_bytes,
        ..ChainEvent::new(kind, event.vm, place.period.as_str())
    }
}
