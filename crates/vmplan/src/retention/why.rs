//! Why a period stays, in words for people and for programs.

use serde::{Deserialize, Serialize};

/// Why a period stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The policy keeps everything.
    NoRetention,
    /// A chain that accumulates is never dropped by a rule.
    Accumulates,
    /// Written just now.
    Current,
    /// Its data does not say when it was made.
    DateUnknown,
    /// Its data says it was made later than now.
    InFuture,
    /// Among the newest of its policy.
    WithinLimit,
    /// The rule for left-over periods is off.
    OrphansStay,
    /// Left over, younger than the minimum.
    Young,
    /// Left over, not yet as old as the maximum.
    Aging,
    /// It would go, but the rule only says so.
    OrphanDryRun,
    /// Something of this VM could not be read.
    Unreadable,
    /// Protected in the database (`purge_eligible = 0`).
    Protected,
    /// The database could not be asked whether it is protected.
    ProtectionUnknown,
    /// Nothing tells whether some file in it is of this backup: it may be all that is right, and it may be wrong.
    Doubtful,
    /// No chain of this VM that can be restored was found.
    NothingRestorable,
    /// Nothing else of this VM can be restored.
    LastRestorable,
    /// Nothing else of this VM holds a restore point.
    LastPeriod,
    /// No replica, and one is required.
    NoReplica,
}

impl Why {
    /// In words, after "kept: ".
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRetention => "the policy keeps everything",
            Self::Accumulates => "a chain that accumulates is never dropped by a rule",
            Self::Current => "it was written just now",
            Self::DateUnknown => "its data does not say when it was made",
            Self::InFuture => "its data says it was made later than now; look at the clock",
            Self::WithinLimit => "it is within the limit",
            Self::OrphansStay => {
                "left-over periods are not deleted (RETENTION_ORPHAN_ENABLED, minimum below maximum age)"
            }
            Self::Young => "left over, and younger than RETENTION_ORPHAN_MIN_AGE_DAYS",
            Self::Aging => "left over, and not yet RETENTION_ORPHAN_MAX_AGE_DAYS old",
            Self::OrphanDryRun => "left over and old, but RETENTION_ORPHAN_DRY_RUN is set",
            Self::Unreadable => "something of this VM could not be read",
            Self::Protected => "it is protected (purge_eligible = 0 in chain_health)",
            Self::ProtectionUnknown => "the database could not be asked whether it is protected",
            Self::Doubtful => {
                "nobody can tell whether it can be restored: files in it contradict each other; vmstream verify says more"
            }
            Self::NothingRestorable => {
                "no chain of this VM that can be restored was found; look at it with vmstream verify"
            }
            Self::LastRestorable => "nothing else of this VM can be restored",
            Self::LastPeriod => "no other period of this VM holds a restore point",
            Self::NoReplica => "it has no replica, and RETENTION_REQUIRE_REPLICATION is block",
        }
    }

    /// True when a guard held back what a rule would have dropped, or a person wanted removed.
    pub fn is_guard(self) -> bool {
        use Why::*;
        matches!(
            self,
            Protected
                | ProtectionUnknown
                | Doubtful
                | LastRestorable
                | NothingRestorable
                | LastPeriod
                | NoReplica
                | Unreadable
        )
    }
}
