//! What became of a VM's older periods.

use serde::{Deserialize, Serialize};

use vmplan::retention::Plan;

/// What was kept and removed after a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// What was decided.
    pub plan: Plan,
    /// Bytes freed, also those of removals that an earlier run did not end.
    pub freed_bytes: u64,
    /// Periods removed.
    pub removed: usize,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}
