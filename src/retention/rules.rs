//! The retention rules of a VM, read from the settings.

use vmplan::retention::{OrphanRule, Rules};

use vmconfig::Settings;
use vmconfig::value::ReplicaRule;

/// How long backups are kept, as configured.
pub fn rules(settings: &Settings) -> Rules {
    Rules {
        days: settings.retention_days.get(),
        weeks: settings.retention_weeks.get(),
        months: settings.retention_months.get(),
        orphans: OrphanRule {
            enabled: settings.orphan_enabled.on,
            max_age_days: settings.orphan_max_age.get(),
            min_age_days: settings.orphan_min_age.get(),
            dry_run: settings.orphan_dry_run.on,
        },
        require_replica: settings.require_replication == ReplicaRule::Block,
    }
}
