//! What is kept, and removing the rest: rules after each backup, and what a person prunes.
//!
//! ```text
//! inventory (disk) ┐
//! log (database)   ├─► vmplan, select (pure) ─► remove
//! rules, now       ┘
//! ```
//! Must not live here: which period a backup goes to (`session`), SQL (`catalog`), what a person sees (`cli`).
//!
//! An age comes from the data itself and is never guessed; what cannot be read, dated or asked about stays.

mod catalog_log;
mod inventory;
mod links;
mod place;
mod remove;
mod retention_log;
mod rules;
mod select;
mod target;

use std::path::Path;

use jiff::civil::DateTime;
use vmconfig::value::RotationPolicy;
use vmreport::RetentionReport;
use vmstream::text::size;

pub use catalog_log::CatalogLog;
pub use inventory::{
    ArchiveTree, Inventory, InventoryError, Leftover, Look, PeriodTree, SetTree, Unreadable, VmTree, read,
    read_vm,
};
pub use place::Place;
pub use remove::{Outcome, Remover};
pub use retention_log::{
    Initiator, PlannedRemoval, RemovalEvent, RemovalOutcome, RemovedChain, RetentionLog,
};
pub use rules::rules;
pub use select::{Guards, Item, SelectError, Selection};
pub use target::{Target, TargetError};
pub use vmplan::retention::{
    Facts, OrphanRule, PeriodFacts, PeriodId, PeriodKind, Plan, Replica, RetentionDecision, Rule, Rules,
    Verdict, Why, plan,
};
use vmstore::Store;
pub use vmstore::remove::FolderError;

/// The VM whose backups are looked at, and the moment.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Where all backups are.
    pub backup_path: &'a Path,
    pub vm_name: &'a str,
    pub folder: &'a str,
    pub policy: RotationPolicy,
    /// The period that its backup went, or would go, to.
    pub current: &'a PeriodId,
    /// What to keep.
    pub rules: &'a Rules,
    /// Local time.
    pub now: DateTime,
}

/// Retention could not look at the backups.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The backup path could not be read.
    #[error("{0}")]
    Inventory(#[from] InventoryError),
    /// It could not be opened for removing.
    #[error("{0}")]
    Folder(#[from] FolderError),
}

/// What [`after_success`] would do if the backup in `scope` succeeded. Touches nothing.
///
/// # Errors
/// When the backup path cannot be read.
pub fn preview(scope: &Scope<'_>, log: &dyn RetentionLog) -> Result<Plan, RetentionError> {
    let store = Store::open(scope.backup_path);
    let inventory = read_vm(&store, &store.vm(scope.folder), Look::Dates)?;
    let keeper = Some(scope.current.clone());
    Ok(decide(scope, &inventory, keeper, log))
}

/// Removes what the rules drop, now that a backup of the VM succeeded; first ends removals that an earlier run did not.
///
/// The caller holds the VM's lock. Policies without periods touch nothing. What could not be removed is in the report.
///
/// # Errors
/// When the backup path cannot be read: then nothing was removed.
pub fn after_success(scope: &Scope<'_>, log: &dyn RetentionLog) -> Result<RetentionReport, RetentionError> {
    let store = Store::open(scope.backup_path);
    let inventory = read_vm(&store, &store.vm(scope.folder), Look::Dates)?;
    let remover = Remover::open(scope.backup_path, log, &|_| {})?;
    let mut report = RetentionReport::default();
    for leftover in &inventory.leftovers {
        match remover.finish(leftover) {
            Ok(bytes) => report.freed_bytes += bytes,
            Err(error) => report.failures.push(error.to_string()),
        }
    }
    let Some(vm) = inventory.vms.first() else { return Ok(report) };
    let keeper = vm.keeper(scope.backup_path, |_| false).map(|set| set.period);
    report.plan = decide(scope, &inventory, keeper, log);
    for verdict in &report.plan.verdicts {
        let removal = removal(scope, vm, verdict);
        match verdict.decision {
            RetentionDecision::Keep(why) if why.is_guard() => {
                let path = &scope.backup_path.join(removal.place.path());
                let what = RemovalOutcome::Kept(why);
                log.record(&RemovalEvent { vm: scope.vm_name, removal: &removal, path, what });
            }
            RetentionDecision::Keep(_) => {}
            RetentionDecision::Delete { rule, .. } => match remover.remove(vm, &removal).result {
                Ok(bytes) => {
                    let (vm, period) = (scope.vm_name, &verdict.period);
                    tracing::info!(vm, "period {period} was removed, {} freed: {}", size(bytes), rule.text());
                    report.freed_bytes += bytes;
                    report.removed += 1;
                }
                Err(error) => report.failures.push(error.to_string()),
            },
        }
    }
    tell(scope, &inventory, &report);
    Ok(report)
}

fn decide(
    scope: &Scope<'_>,
    inventory: &Inventory,
    keeper: Option<PeriodId>,
    log: &dyn RetentionLog,
) -> Plan {
    let periods = inventory.vms.iter().flat_map(|vm| &vm.periods);
    let periods = periods.map(|period| PeriodFacts {
        id: period.id.clone(),
        size_bytes: period.size_bytes,
        newest: period.newest(),
        definition_only: period.is_definition_only(),
        protected: log.protected(scope.vm_name, &period.id),
        doubtful: false,
        replica: log.replica(scope.vm_name, &period.id),
    });
    let mut seen = Facts {
        policy: scope.policy,
        current: scope.current.clone(),
        complete: inventory.unreadable.is_empty(),
        keeper,
        periods: periods.collect(),
    };
    // The sets of a period are read only when it would go.
    let going: Vec<PeriodId> =
        plan(&seen, scope.rules, scope.now).deletions().map(|(verdict, _)| verdict.period.clone()).collect();
    for vm in &inventory.vms {
        for period in seen.periods.iter_mut().filter(|period| going.contains(&period.id)) {
            let place = Place::period(&vm.folder, &period.id);
            period.doubtful = vm.is_doubtful(scope.backup_path, &place);
        }
    }
    plan(&seen, scope.rules, scope.now)
}

/// A verdict as the remover and the database take it.
fn removal(scope: &Scope<'_>, vm: &VmTree, verdict: &Verdict) -> PlannedRemoval {
    let rule = match verdict.decision {
        RetentionDecision::Delete { rule, .. } => Some(rule),
        RetentionDecision::Keep(_) => None,
    };
    let is_orphan = match rule {
        Some(rule) => matches!(rule, Rule::Orphan { .. }),
        None => verdict.period.kind().policy() != scope.policy,
    };
    let (initiator, limit) = if is_orphan {
        (Initiator::Orphan, Some(scope.rules.orphans.max_age_days.into()))
    } else {
        (Initiator::Retention, scope.rules.limit(scope.policy).map(|limit| limit as u64))
    };
    let place = Place::period(scope.folder, &verdict.period);
    PlannedRemoval { age_days: verdict.age_days, limit, ..PlannedRemoval::of(vm, place, initiator) }
}

fn tell(scope: &Scope<'_>, inventory: &Inventory, report: &RetentionReport) {
    let vm = scope.vm_name;
    for shown in &inventory.of_storage {
        tracing::info!(vm, "{} belongs to the storage and is passed over", shown.display());
    }
    let is_held = |verdict: &Verdict| verdict.decision == RetentionDecision::Keep(Why::Unreadable);
    if report.plan.verdicts.iter().any(is_held) {
        inventory.unreadable.iter().for_each(|missed| tracing::warn!(vm, "{}", missed.why));
    }
    for verdict in &report.plan.verdicts {
        match verdict.decision {
            RetentionDecision::Keep(why @ (Why::DateUnknown | Why::InFuture)) => {
                tracing::warn!(vm, "period {} is kept: {}", verdict.period, why.text());
            }
            RetentionDecision::Keep(why) if why.is_guard() || why == Why::OrphanDryRun => {
                tracing::warn!(vm, "period {} is kept: {}", verdict.period, why.text());
            }
            RetentionDecision::Keep(why) => {
                tracing::debug!(vm, "period {} is kept: {}", verdict.period, why.text())
            }
            RetentionDecision::Delete { unreplicated: true, .. } => {
                tracing::warn!(vm, "period {} was removed without having a replica", verdict.period);
            }
            RetentionDecision::Delete { .. } => {}
        }
    }
    report.failures.iter().for_each(|failure| tracing::error!(vm, "{failure}"));
    let kept = |wanted: &dyn Fn(Why) -> bool| {
        report
            .plan
            .verdicts
            .iter()
            .filter(|v| matches!(v.decision, RetentionDecision::Keep(why) if wanted(why)))
            .count()
    };
    let aging = kept(&|why| matches!(why, Why::Aging | Why::Young));
    let protected = kept(&|why| why.is_guard());
    let (removed, failed) = (report.removed, report.failures.len());
    if removed + aging + protected + failed > 0 {
        tracing::info!(
            vm,
            "retention: deleted={removed} aging={aging} protected={protected} failed={failed}, {} freed",
            size(report.freed_bytes)
        );
    }
}
