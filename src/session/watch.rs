//! Who hears of a run while it goes on.

use std::path::PathBuf;

use crate::engine::watch::Watch;
use vmreport::VmReport;

/// Hears of a run: of each domain, and of the disks of each domain.
pub trait RunWatch: Sync {
    /// A domain's backup begins. What is returned hears of its disks.
    fn vm_begin(&self, domain: &str) -> Box<dyn Watch>;
    /// A domain's backup ended.
    fn vm_end(&self, report: &VmReport);
    /// The log that a domain has for itself, from [`vm_begin`](Self::vm_begin) to [`vm_end`](Self::vm_end).
    fn log_file(&self, _domain: &str) -> Option<PathBuf> {
        None
    }
}
