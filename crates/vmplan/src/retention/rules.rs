//! How long backups are kept, as somebody chose it.

use serde::Serialize;

use crate::RotationPolicy;

/// How long backups are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Periods kept of a daily rotation, at least 1.
    pub days: u32,
    /// Of a weekly one.
    pub weeks: u32,
    /// Of a monthly one.
    pub months: u32,
    /// What becomes of periods of other rotations.
    pub orphans: OrphanRule,
    /// Periods without a replica stay.
    pub require_replica: bool,
}

/// What becomes of periods that another rotation left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanRule {
    /// Whether any of them is deleted.
    pub enabled: bool,
    /// Age in days from which on they are.
    pub max_age_days: u32,
    /// Age in days below which they never are. Not below `max_age_days`: the rule is off.
    pub min_age_days: u32,
    /// Only say so.
    pub dry_run: bool,
}

/// What became of a period's replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replica {
    /// Nothing was ever replicated: no destination is in use.
    NotUsed,
    There,
    /// Others were replicated, this was not.
    Missing,
}

impl Rules {
    /// Periods to keep under a policy; `None` where nothing is counted. Never 0: the period just written stays.
    pub fn limit(&self, policy: RotationPolicy) -> Option<usize> {
        let periods = match policy {
            RotationPolicy::Daily => self.days,
            RotationPolicy::Weekly => self.weeks,
            RotationPolicy::Monthly => self.months,
            RotationPolicy::Accumulate | RotationPolicy::Never => return None,
        };
        Some(usize::try_from(periods).unwrap_or(usize::MAX).max(1))
    }
}
