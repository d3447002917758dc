//! What becomes of a VM's older periods after its backup (asks `retention`), and of what killed programs left there: with the VM's
//! lock held.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::open::Session;
use super::record::Records;
use super::unfinished::{self, Settled};
use crate::catalog::{FileOperation, FileType, Operation, Stamp};
use crate::clock::Clock;
use crate::engine::{Engine, VmTarget};
use crate::retention::{self, CatalogLog, PeriodId, Plan, RetentionError, Rules, Scope};
use vmreport::RetentionReport;
use vmstore::VmLock;
use vmstream::text::size;

/// How long another run that has the VM is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The older periods of one VM.
pub(super) struct Cleanup<'a> {
    vm: &'a VmTarget,
    backup_path: &'a Path,
    rules: &'a Rules,
    clock: Clock,
}

impl<'a> Cleanup<'a> {
    /// Those of a VM of this run.
    pub(super) fn of(session: &'a Session, vm: &'a VmTarget) -> Self {
        Self { vm, backup_path: &session.backup_path, rules: &session.retention, clock: session.clock }
    }

    /// What would go. `None` when the periods cannot be read, which is said.
    pub(super) fn preview(&self, records: Records<'_>) -> Option<Plan> {
        self.with_scope(records, retention::preview)
    }

    /// Removes what goes. A backup, which began then, is no worse for what could not be removed, so that is only said.
    pub(super) fn after_success(
        &self,
        engine: &Engine,
        records: Records<'_>,
        began: SystemTime,
    ) -> Option<RetentionReport> {
        let vm = self.vm.domain.name();
        let _lock = match VmLock::take(&engine.state, vm, LOCK_PATIENCE) {
            Ok(lock) => lock,
            Err(error) => {
                tracing::warn!(vm, "Older periods stay for now: {error}");
                return None;
            }
        };
        self.remove_unfinished(records, began);
        self.with_scope(records, retention::after_success)
    }

    /// What a program that was killed has left in the VM's folders.
    fn remove_unfinished(&self, records: Records<'_>, began: SystemTime) {
        let vm = self.vm.domain.name();
        for file in unfinished::find(&self.vm.vm_dir) {
            let (shown, bytes) = (file.path.display(), size(file.bytes));
            match unfinished::settle(&file, began) {
                Ok(Settled::Removed) => {
                    tracing::warn!(vm, "{shown} ({bytes}) was left by a run that was killed: removed");
                    let stamp = Stamp { session: records.session, at: self.clock.now() };
                    let operation = FileOperation {
                        bytes: file.bytes,
                        reason: "left by a run that was killed".to_owned(),
                        triggered_by: "remove_unfinished".to_owned(),
                        ..FileOperation::new(Operation::Delete, FileType::Backup, vm, &file.path)
                    };
                    records.catalog.event(stamp, &operation);
                }
                Ok(Settled::PutAside(to)) => tracing::warn!(
                    vm,
                    "{shown} ({bytes}) was left by a run that was killed, and another host may have it: it is called {} now",
                    to.display()
                ),
                Ok(Settled::Left(why)) => {
                    tracing::warn!(vm, "{shown} ({bytes}) is unfinished and stays: {why}")
                }
                Err(error) => {
                    tracing::warn!(vm, "{shown} ({bytes}) is unfinished and cannot be removed: {error}")
                }
            }
        }
    }

    fn with_scope<T>(
        &self,
        records: Records<'_>,
        ask: fn(&Scope<'_>, &dyn retention::RetentionLog) -> Result<T, RetentionError>,
    ) -> Option<T> {
        let current = PeriodId::parse(&self.vm.placement.period)?;
        let scope = Scope {
            backup_path: self.backup_path,
            vm_name: self.vm.domain.name(),
            folder: &self.vm.folder,
            policy: self.vm.placement.policy,
            current: &current,
            rules: self.rules,
            now: self.clock.local().datetime(),
        };
        let stamp = Stamp { session: records.session, at: self.clock.now() };
        let ledger = CatalogLog::new(records.catalog, stamp);
        ask(&scope, &ledger)
            .inspect_err(|error| tracing::warn!(vm = scope.vm_name, "Older periods stay for now: {error}"))
            .ok()
    }
}
