//! Which periods of a VM stay, and which go, after a backup.
//!
//! Must not live here: how periods are found and removed, the archived chains inside them.

mod period;
mod plan;
mod rules;
mod why;

pub use period::{PeriodId, PeriodKind};
pub use plan::{Facts, PeriodFacts, Plan, RetentionDecision, Rule, Verdict, plan};
pub use rules::{OrphanRule, Replica, Rules};
pub use why::Why;
