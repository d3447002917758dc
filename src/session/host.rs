//! The host's own configuration, once per run, when the VMs are done.

use std::path::Path;

use super::open::Session;
use super::record::Records;
use crate::catalog::{FileOperation, FileType, Operation, Stamp};
use vmhost::host_config::{HostConfigError, Plan};
use vmreport::{HostConfigReport, Part, SavedHostConfig};

/// What would become of the host's configuration. `None` when it is not saved at all: `HOST_CONFIG_BACKUP=no`.
pub type HostOutcome<T> = Option<Result<T, HostConfigError>>;

/// Stands for the host where the database has a VM's name.
const VM_NAME: &str = "__HOST__";

impl Session {
    /// What a run would do about it. `config_dir` is kept too: the folder of this instance's settings.
    pub fn host_plan(&self, config_dir: &Path) -> HostOutcome<Plan> {
        let keep = self.host_config_keep?;
        let config_dir = std::fs::canonicalize(config_dir).unwrap_or_else(|_| config_dir.to_owned());
        Some(Plan::make(&self.host, &self.backup_path, &[&config_dir], keep, self.clock.local()))
    }

    /// Saves it, where it has changed. The VMs' backups are no worse when that fails.
    pub fn save_host(&self, config_dir: &Path, records: Records<'_>) -> HostConfigReport {
        let plan = self.host_plan(config_dir);
        let report = match plan.map(|plan| plan.and_then(|plan| plan.carry_out(&self.backup_path))) {
            None => HostConfigReport::Off,
            Some(Err(error)) => {
                tracing::warn!("The host's configuration is not saved: {error}");
                HostConfigReport::Failed { error: error.to_string() }
            }
            Some(Ok(saved)) => {
                saved.warnings.iter().for_each(|what| tracing::warn!("Host configuration: {what}"));
                let by = Stamp { session: records.session, at: self.clock.now() };
                operations(&saved).iter().for_each(|operation| records.catalog.event(by, operation));
                if saved.is_new { HostConfigReport::Saved(saved) } else { HostConfigReport::Unchanged(saved) }
            }
        };
        records.part(&Part::HostConfig(report.clone()));
        report
    }
}

/// What was done to files, for the database.
fn operations(saved: &SavedHostConfig) -> Vec<FileOperation> {
    let of = |operation, from: &Path| FileOperation {
        triggered_by: "host_config".to_owned(),
        ..FileOperation::new(operation, FileType::HostConfig, VM_NAME, from)
    };
    let made = saved.is_new.then(|| FileOperation {
        to: saved.file.clone(),
        bytes: saved.file_bytes,
        reason: saved.why.clone(),
        ..of(Operation::Create, Path::new("/"))
    });
    let reason = "HOST_CONFIG_KEEP".to_owned();
    let removed = saved
        .removed
        .iter()
        .map(|old| FileOperation { reason: reason.clone(), ..of(Operation::Delete, old) });
    made.into_iter().chain(removed).collect()
}
