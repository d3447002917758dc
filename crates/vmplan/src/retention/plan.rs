//! Which periods a VM keeps after a backup, and which go. Pure: no clock, no files, no database.
//!
//! ```text
//! period                                        verdict
//! policy accumulate or never                    all stay
//! written just now                              stays
//! its data does not tell a date, or a later one stays, and is not counted
//! of this policy, among the newest `limit`      stays; definitions without disks count only where nothing else is left
//! of this policy, older                         goes, if no guard holds it
//! of another policy, rule off                   stays
//! of another policy, younger than the minimum   stays
//! of another policy, between minimum and maximum stays (aging)
//! of another policy, older                      goes, if no guard holds it (only said, in a dry run)
//!
//! guards, in order: something of the VM could not be read; protected in the database, or the database cannot be asked;
//! in it a chain of which nobody can tell whether it can be restored; the only place with a chain that can be; no replica, where one is required
//! ```

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::period::{PeriodId, PeriodKind};
use super::rules::{Replica, Rules};
use super::why::Why;
use crate::RotationPolicy;

/// What is known of a VM's backups.
#[derive(Clone, Debug)]
pub struct Facts {
    pub policy: RotationPolicy,
    /// The period written just now.
    pub current: PeriodId,
    /// Everything below the VM's folder could be read.
    pub complete: bool,
    /// A period with a chain that can be restored, and of which that is not in doubt: the newest such. `None` when none was
    /// found.
    pub keeper: Option<PeriodId>,
    pub periods: Vec<PeriodFacts>,
}

/// What is known of a period.
#[derive(Clone, Debug)]
pub struct PeriodFacts {
    pub id: PeriodId,
    /// Bytes of everything in it.
    pub size_bytes: u64,
    /// When its newest point was made, in local time, as the data tells.
    pub newest: Option<DateTime>,
    /// None of its points has a disk.
    pub definition_only: bool,
    /// Protected in the database; `None` when that cannot be asked.
    pub protected: Option<bool>,
    /// A chain in it contradicts itself, and nothing tells which of its files is right. Looked at only where it matters: `false`
    /// for a period that no rule would drop.
    pub doubtful: bool,
    pub replica: Replica,
}

/// What becomes of each period of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order they were given.
    pub verdicts: Vec<Verdict>,
}

/// What becomes of a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub period: PeriodId,
    pub size_bytes: u64,
    /// Whole days since its newest point, where the data tells.
    pub age_days: Option<i64>,
    /// What becomes of it. Reports name it `fate`.
    #[serde(rename = "fate")]
    pub decision: RetentionDecision,
}

/// Whether a period stays or goes, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionDecision {
    /// Stays.
    Keep(Why),
    /// Goes.
    Delete {
        /// Under which rule.
        rule: Rule,
        /// Though it has no replica.
        unreplicated: bool,
    },
}

/// The rule a period goes under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// More periods of the policy than are kept.
    Count {
        /// How many are kept.
        limit: usize,
    },
    /// Left over from another policy, and old.
    Orphan {
        /// The age from which on they go.
        max_age_days: u32,
    },
}

impl Rule {
    /// Why a period goes, for people.
    pub fn text(self) -> String {
        match self {
            Self::Count { limit } => format!("{limit} are kept"),
            Self::Orphan { max_age_days } => {
                format!("left by another policy, {max_age_days} days old or more")
            }
        }
    }
}

impl Plan {
    /// The periods that go.
    pub fn deletions(&self) -> impl Iterator<Item = (&Verdict, Rule)> {
        self.verdicts.iter().filter_map(|verdict| match verdict.decision {
            RetentionDecision::Delete { rule, .. } => Some((verdict, rule)),
            RetentionDecision::Keep(_) => None,
        })
    }
}

/// Decides for each period. `now` is local time, as the dates in the data are.
pub fn plan(seen: &Facts, rules: &Rules, now: DateTime) -> Plan {
    let newest_first = newest_of_policy(seen, now);
    let verdict = |period: &PeriodFacts| {
        let age_days = period.newest.map(|date| now.duration_since(date).as_secs().div_euclid(86_400));
        let decision = match rule(seen, rules, &newest_first, period, now) {
            Ok(rule) => guard(seen, rules, period, rule),
            Err(why) => RetentionDecision::Keep(why),
        };
        Verdict { period: period.id.clone(), size_bytes: period.size_bytes, age_days, decision }
    };
    Plan { verdicts: seen.periods.iter().map(verdict).collect() }
}

/// The periods of this policy with a date that can be, each with whether it counts. The one just written is the newest,
/// whatever the clock said when the others were made. Those without any disk count only where nothing else is left.
fn newest_of_policy(seen: &Facts, now: DateTime) -> Vec<(&PeriodId, bool)> {
    let is_dated = |period: &&PeriodFacts| {
        period.id != seen.current
            && period.id.kind().policy() == seen.policy
            && period.newest.is_some_and(|date| date <= now)
    };
    let mut counted: Vec<&PeriodFacts> = seen.periods.iter().filter(is_dated).collect();
    counted.sort_by_key(|period| std::cmp::Reverse((period.newest, &period.id)));
    let current = seen.periods.iter().find(|period| period.id == seen.current);
    let any_disk = counted.iter().copied().chain(current).any(|period| !period.definition_only);
    let counts = |period: &PeriodFacts| !(any_disk && period.definition_only);
    let first = (&seen.current, current.is_none_or(counts));
    std::iter::once(first).chain(counted.into_iter().map(|period| (&period.id, counts(period)))).collect()
}

/// The rule a period would go under, or why none applies.
fn rule(
    seen: &Facts,
    rules: &Rules,
    newest_first: &[(&PeriodId, bool)],
    period: &PeriodFacts,
    now: DateTime,
) -> Result<Rule, Why> {
    let Some(limit) = rules.limit(seen.policy) else { return Err(Why::NoRetention) };
    if period.id.kind() == PeriodKind::Accumulate {
        return Err(Why::Accumulates);
    }
    if period.id == seen.current {
        return Err(Why::Current);
    }
    let Some(date) = period.newest else { return Err(Why::DateUnknown) };
    if date > now {
        return Err(Why::InFuture);
    }
    if period.id.kind().policy() == seen.policy {
        let newer = newest_first.iter().take_while(|(id, _)| **id != period.id);
        let kept = newer.filter(|(_, counts)| *counts).count() < limit;
        return if kept { Err(Why::WithinLimit) } else { Ok(Rule::Count { limit }) };
    }
    let orphans = &rules.orphans;
    if !orphans.enabled || orphans.min_age_days >= orphans.max_age_days {
        return Err(Why::OrphansStay);
    }
    match now.duration_since(date).as_secs() / 86_400 {
        age if age < i64::from(orphans.min_age_days) => Err(Why::Young),
        age if age < i64::from(orphans.max_age_days) => Err(Why::Aging),
        _ if orphans.dry_run => Err(Why::OrphanDryRun),
        _ => Ok(Rule::Orphan { max_age_days: orphans.max_age_days }),
    }
}

fn guard(seen: &Facts, rules: &Rules, period: &PeriodFacts, rule: Rule) -> RetentionDecision {
    let held = match (&seen.keeper, period.protected) {
        _ if !seen.complete => Some(Why::Unreadable),
        (_, None) => Some(Why::ProtectionUnknown),
        (_, Some(true)) => Some(Why::Protected),
        _ if period.doubtful => Some(Why::Doubtful),
        (None, _) => Some(Why::NothingRestorable),
        (Some(keeper), _) if *keeper == period.id => Some(Why::LastRestorable),
        _ if rules.require_replica && period.replica == Replica::Missing => Some(Why::NoReplica),
        _ => None,
    };
    let go = RetentionDecision::Delete { rule, unreplicated: period.replica == Replica::Missing };
    held.map_or(go, RetentionDecision::Keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::OrphanRule;
    use jiff::ToSpan;
    use jiff::civil::date;

    fn rules() -> Rules {
        let orphans = OrphanRule { enabled: true, max_age_days: 90, min_age_days: 7, dry_run: false };
        Rules { days: 3, weeks: 2, months: 2, orphans, require_replica: false }
    }

    fn now() -> DateTime {
        date(2026, 11, 22).at(1, 0, 0, 0)
    }

    /// A period whose newest point is so many days old.
    fn aged(name: &str, days: i64) -> PeriodFacts {
        PeriodFacts {
            id: PeriodId::parse(name).unwrap(),
            size_bytes: 10,
            newest: Some(now() - days.days()),
            definition_only: false,
            protected: Some(false),
            doubtful: false,
            replica: Replica::NotUsed,
        }
    }

    fn seen(policy: RotationPolicy, periods: Vec<PeriodFacts>) -> Facts {
        let current = periods[0].id.clone();
        Facts { policy, keeper: Some(current.clone()), current, complete: true, periods }
    }

    fn daily() -> Facts {
        let names = ["20261122", "20261121", "20261120", "20261119", "20261118"];
        let periods = names.iter().zip(0..).map(|(name, days)| aged(name, days)).collect();
        seen(RotationPolicy::Daily, periods)
    }

    fn decisions(seen: &Facts, rules: &Rules) -> Vec<RetentionDecision> {
        plan(seen, rules, now()).verdicts.into_iter().map(|verdict| verdict.decision).collect()
    }

    const COUNTED: RetentionDecision =
        RetentionDecision::Delete { rule: Rule::Count { limit: 3 }, unreplicated: false };

    fn keep(whys: &[Why]) -> Vec<RetentionDecision> {
        whys.iter().copied().map(RetentionDecision::Keep).collect()
    }

    #[test]
    fn the_newest_periods_of_the_policy_stay() {
        let mut want = keep(&[Why::Current, Why::WithinLimit, Why::WithinLimit]);
        want.extend([COUNTED, COUNTED]);
        assert_eq!(decisions(&daily(), &rules()), want);
    }

    #[test]
    fn a_limit_of_zero_keeps_what_was_just_written() {
        let decisions = decisions(&daily(), &Rules { days: 0, ..rules() });
        assert_eq!(decisions[0], RetentionDecision::Keep(Why::Current));
        assert!(
            decisions[1..].iter().all(|decision| matches!(decision, RetentionDecision::Delete { .. })),
            "{decisions:?}"
        );
    }

    #[test]
    fn the_data_counts_and_not_the_name() {
        // The Bash program called the last days of 2025 2025-W01.
        let weeks =
            vec![aged("2026-W02", 0), aged("2025-W01", 7), aged("2025-W52", 14), aged("2025-W51", 21)];
        let decisions = decisions(&seen(RotationPolicy::Weekly, weeks), &Rules { weeks: 3, ..rules() });
        assert_eq!(decisions[..3], keep(&[Why::Current, Why::WithinLimit, Why::WithinLimit]));
        assert!(matches!(decisions[3], RetentionDecision::Delete { .. }));
    }

    #[test]
    fn without_a_date_or_with_one_to_come_nothing_goes_and_nothing_counts() {
        let mut seen = daily();
        seen.periods[1].newest = None;
        seen.periods[2].newest = Some(now() + 1.day());
        let mut want =
            keep(&[Why::Current, Why::DateUnknown, Why::InFuture, Why::WithinLimit, Why::WithinLimit]);
        assert_eq!(decisions(&seen, &rules()), want);
        seen.periods.push(aged("20261117", 5));
        want.push(COUNTED);
        assert_eq!(decisions(&seen, &rules()), want);
    }

    #[test]
    fn what_another_policy_left_goes_by_age() {
        let months = vec![
            aged("202611", 0),
            aged("20261116", 6),
            aged("20261115", 7),
            aged("2026-W35", 89),
            aged("2026-W34", 90),
            aged("accumulate", 500),
        ];
        let seen = seen(RotationPolicy::Monthly, months);
        let orphan =
            RetentionDecision::Delete { rule: Rule::Orphan { max_age_days: 90 }, unreplicated: false };
        let with = |orphans: OrphanRule| Rules { orphans, ..rules() };
        let usual = rules().orphans;
        let cases = [
            ("as configured", usual.clone(), [Why::Young, Why::Aging, Why::Aging], orphan),
            (
                "off",
                OrphanRule { enabled: false, ..usual.clone() },
                [Why::OrphansStay; 3],
                RetentionDecision::Keep(Why::OrphansStay),
            ),
            (
                "minimum as maximum",
                OrphanRule { min_age_days: 90, ..usual.clone() },
                [Why::OrphansStay; 3],
                RetentionDecision::Keep(Why::OrphansStay),
            ),
            (
                "dry run",
                OrphanRule { dry_run: true, ..usual },
                [Why::Young, Why::Aging, Why::Aging],
                RetentionDecision::Keep(Why::OrphanDryRun),
            ),
        ];
        for (name, orphans, whys, last) in cases {
            let decisions = decisions(&seen, &with(orphans));
            assert_eq!(decisions[0], RetentionDecision::Keep(Why::Current), "{name}");
            assert_eq!(decisions[1..4], keep(&whys), "{name}");
            assert_eq!(decisions[4], last, "{name}");
            assert_eq!(decisions[5], RetentionDecision::Keep(Why::Accumulates), "{name}");
        }
    }

    #[test]
    fn policies_without_periods_keep_everything() {
        for policy in [RotationPolicy::Accumulate, RotationPolicy::Never] {
            let seen = Facts { policy, ..daily() };
            assert_eq!(decisions(&seen, &rules()), keep(&[Why::NoRetention; 5]));
        }
    }

    #[test]
    fn each_guard_holds_what_a_rule_would_drop() {
        let keeper = |name: &str| PeriodId::parse(name);
        let set = |change: &dyn Fn(&mut Facts)| {
            let mut seen = daily();
            change(&mut seen);
            seen
        };
        let block = Rules { require_replica: true, ..rules() };
        let unreplicated = RetentionDecision::Delete { rule: Rule::Count { limit: 3 }, unreplicated: true };
        let cases: [(&str, Facts, &Rules, RetentionDecision); 10] = [
            ("unreadable", set(&|s| s.complete = false), &rules(), RetentionDecision::Keep(Why::Unreadable)),
            (
                "protected",
                set(&|s| s.periods[4].protected = Some(true)),
                &rules(),
                RetentionDecision::Keep(Why::Protected),
            ),
            (
                "unknown",
                set(&|s| s.periods[4].protected = None),
                &rules(),
                RetentionDecision::Keep(Why::ProtectionUnknown),
            ),
            (
                "doubtful",
                set(&|s| s.periods[4].doubtful = true),
                &rules(),
                RetentionDecision::Keep(Why::Doubtful),
            ),
            (
                "doubtful, and nothing is known to be good",
                set(&|s| (s.keeper, s.periods[4].doubtful) = (None, true)),
                &rules(),
                RetentionDecision::Keep(Why::Doubtful),
            ),
            (
                "last",
                set(&|s| s.keeper = keeper("20261118")),
                &rules(),
                RetentionDecision::Keep(Why::LastRestorable),
            ),
            ("nothing", set(&|s| s.keeper = None), &rules(), RetentionDecision::Keep(Why::NothingRestorable)),
            ("no replica, warn", set(&|s| s.periods[4].replica = Replica::Missing), &rules(), unreplicated),
            (
                "no replica, block",
                set(&|s| s.periods[4].replica = Replica::Missing),
                &block,
                RetentionDecision::Keep(Why::NoReplica),
            ),
            ("replica, block", set(&|s| s.periods[4].replica = Replica::There), &block, COUNTED),
        ];
        for (name, seen, rules, want) in cases {
            assert_eq!(decisions(&seen, rules)[4], want, "{name}");
        }
    }
}
