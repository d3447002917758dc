//! Which policy a VM has, and which period's chain a run goes on with.
//!
//! | newest period of the policy on disk | the run's chain is in |
//! |---|---|
//! | none, or an earlier one | today's period |
//! | today's | today's period |
//! | later than today's, by 31 days at most | that one: the clock was set back a little |
//! | later than that | today's period: that folder was made while the clock was wrong |
//! | later than today's, and today is before 2026 | the newest one: the clock itself is wrong now |
//!
//! So a clock that jumps back begins no second chain beside the one that the VM's checkpoints belong to, what is written is
//! never the oldest period, which retention would delete, and one wrong date does not stop the rotation for years.
//!
//! Must not live here: reading folders (`session`), what becomes of old periods (`retention`).

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::{Date, ISOWeekDate, Weekday, date};
use jiff::{Span, ToSpan};

use super::glob::Pattern;
use crate::RotationPolicy;

/// The period of a chain that never ends by date.
pub const ACCUMULATE: &str = "accumulate";

/// No release of this program is older, so an earlier date is a clock that lost its battery.
const CLOCK_FLOOR: Date = date(2026, 1, 1);

/// How far a clock may have been set back.
const SET_BACK_DAYS: i64 = 31;

/// The policies of an instance.
#[derive(Clone, Debug)]
pub struct Policies {
    /// For VMs that nothing else is said of.
    pub default: RotationPolicy,
    /// `VM_POLICY`, by the exact name.
    pub by_vm: BTreeMap<String, RotationPolicy>,
    /// `EXCLUDE_PATTERNS`; comes before `by_vm`.
    pub exclude: Vec<Pattern>,
}

/// Why a VM has its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// `DEFAULT_ROTATION_POLICY`
    Default,
    /// `VM_POLICY`
    Override,
    /// This one of `EXCLUDE_PATTERNS`.
    Pattern(String),
}

impl fmt::Display for ChosenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "DEFAULT_ROTATION_POLICY"),
            Self::Override => write!(f, "VM_POLICY"),
            Self::Pattern(pattern) => write!(f, "EXCLUDE_PATTERNS {pattern:?}"),
        }
    }
}

impl Policies {
    /// The policy of a VM. A VM named on the command line has no other: `never` stays `never`.
    pub fn of(&self, vm: &str) -> (RotationPolicy, ChosenBy) {
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.matches(vm)) {
            return (RotationPolicy::Never, ChosenBy::Pattern(pattern.to_string()));
        }
        match self.by_vm.get(vm) {
            Some(policy) => (*policy, ChosenBy::Override),
            None => (self.default, ChosenBy::Default),
        }
    }
}

/// A day, an ISO week or a month. Ordered by its first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    first_day: Date,
    length: Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Length {
    Day,
    Week,
    Month,
}

impl Period {
    /// The period a day belongs to. `None` for policies without periods.
    pub fn of(policy: RotationPolicy, day: Date) -> Option<Self> {
        let (first_day, length) = match policy {
            RotationPolicy::Daily => (day, Length::Day),
            RotationPolicy::Weekly => (week_begin(day.iso_week_date())?, Length::Week),
            RotationPolicy::Monthly => (day.first_of_month(), Length::Month),
            RotationPolicy::Accumulate | RotationPolicy::Never => return None,
        };
        Some(Self { first_day, length })
    }

    /// Reads a folder name: `20260206`, `2026-W06` or `202602`. `None` when it is no period, or no date.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((year, week)) = name.split_once("-W") {
            let (year, week) = (digits(year, 4)?, digits(week, 2)?);
            let week = ISOWeekDate::new(year, i8::try_from(week).ok()?, Weekday::Monday).ok()?;
            return Some(Self { first_day: week_begin(week)?, length: Length::Week });
        }
        let number = |from: usize, to: usize| name.get(from..to).and_then(|text| digits(text, to - from));
        let (length, day) = match name.len() {
            6 => (Length::Month, 1),
            8 => (Length::Day, number(6, 8)?),
            _ => return None,
        };
        let (month, day) = (i8::try_from(number(4, 6)?).ok()?, i8::try_from(day).ok()?);
        Some(Self { first_day: Date::new(number(0, 4)?, month, day).ok()?, length })
    }

    /// The policy that makes such periods.
    pub fn policy(self) -> RotationPolicy {
        match self.length {
            Length::Day => RotationPolicy::Daily,
            Length::Week => RotationPolicy::Weekly,
            Length::Month => RotationPolicy::Monthly,
        }
    }

    pub fn first_day(self) -> Date {
        self.first_day
    }

    /// The first day of the next one.
    pub fn next_begin(self) -> Date {
        let length: Span = match self.length {
            Length::Day => 1.day(),
            Length::Week => 1.week(),
            Length::Month => 1.month(),
        };
        self.first_day.saturating_add(length)
    }
}

/// The name of its folder.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `%G`, the year that the ISO week belongs to: 29 December can be in week 1 of the next year.
        let format = match self.length {
            Length::Day => "%Y%m%d",
            Length::Week => "%G-W%V",
            Length::Month => "%Y%m",
        };
        write!(f, "{}", self.first_day.strftime(format))
    }
}

fn week_begin(week: ISOWeekDate) -> Option<Date> {
    ISOWeekDate::new(week.year(), week.week(), Weekday::Monday).ok().map(ISOWeekDate::date)
}

fn digits(text: &str, count: usize) -> Option<i16> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// Where a run's chain of one VM is, and what the calendar says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The VM's policy.
    pub policy: RotationPolicy,
    /// The period's name, as the database has it.
    pub period: String,
    /// The folder below the VM's; `None` when the chain is in the VM's folder itself.
    pub folder: Option<String>,
    /// The newest earlier period of the same policy that is on disk.
    pub previous: Option<String>,
    /// Other policies have left chains: this one is new.
    pub other_policies: bool,
    /// The clock says that this period has not begun yet.
    pub clock_behind: bool,
    /// The day of the run.
    pub today: Date,
}

impl Placement {
    /// Chooses the period. `folders` are the names of the folders in the VM's folder. `None` for [`RotationPolicy::Never`].
    pub fn choose(policy: RotationPolicy, today: Date, folders: &[String]) -> Option<Self> {
        let known: Vec<Period> = folders.iter().filter_map(|name| Period::parse(name)).collect();
        let own: Vec<Period> = known.iter().copied().filter(|period| period.policy() == policy).collect();
        let other_policies = own.len() < known.len();
        let Some(current) = Period::of(policy, today) else {
            let chain = Self {
                policy,
                period: ACCUMULATE.to_owned(),
                folder: None,
                previous: None,
                other_policies,
                clock_behind: false,
                today,
            };
            return (policy == RotationPolicy::Accumulate).then_some(chain);
        };
        let horizon =
            if today < CLOCK_FLOOR { Date::MAX } else { today.saturating_add(SET_BACK_DAYS.days()) };
        let newest = own.iter().copied().filter(|period| period.first_day <= horizon).max();
        let chosen = newest.map_or(current, |newest| newest.max(current));
        let previous = own.iter().copied().filter(|period| *period < chosen).max();
        Some(Self {
            policy,
            period: chosen.to_string(),
            folder: Some(chosen.to_string()),
            previous: previous.map(|period| period.to_string()),
            other_policies,
            clock_behind: chosen > current,
            today,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RotationPolicy::{Accumulate, Daily, Monthly, Never, Weekly};

    fn id(policy: RotationPolicy, day: Date) -> String {
        Period::of(policy, day).expect("a policy with periods").to_string()
    }

    #[test]
    fn periods_are_named_as_the_bash_program_does_and_right_at_new_year() {
        // (day, daily, weekly, monthly)
        let cases = [
            (date(2026, 2, 6), "20260206", "2026-W06", "202602"),
            (date(2025, 12, 28), "20251228", "2025-W52", "202512"),
            (date(2025, 12, 29), "20251229", "2026-W01", "202512"),
            (date(2026, 1, 4), "20260104", "2026-W01", "202601"),
            (date(2026, 12, 31), "20261231", "2026-W53", "202612"),
            (date(2027, 1, 3), "20270103", "2026-W53", "202701"),
            (date(2027, 1, 4), "20270104", "2027-W01", "202701"),
            (date(2028, 2, 29), "20280229", "2028-W09", "202802"),
        ];
        for (day, daily, weekly, monthly) in cases {
            let names = [Daily, Weekly, Monthly].map(|policy| id(policy, day));
            assert_eq!(names, [daily, weekly, monthly], "{day}");
        }
    }

    #[test]
    fn every_day_of_forty_years_is_in_the_period_that_is_read_back_from_its_name() {
        let mut day = date(2020, 1, 1);
        while day < date(2060, 1, 1) {
            for policy in [Daily, Weekly, Monthly] {
                let period = Period::of(policy, day).unwrap();
                assert_eq!(Period::parse(&period.to_string()), Some(period), "{day}");
                assert_eq!(period.policy(), policy);
                assert!(period.first_day() <= day && day < period.next_begin(), "{day} {period}");
                assert!(Period::of(policy, period.next_begin()).unwrap().to_string() > period.to_string());
            }
            day = day.tomorrow().unwrap();
        }
    }

    #[test]
    fn other_folders_are_no_periods() {
        let names = [
            "config",
            "checkpoints",
            "tpm-state",
            "",
            "2026",
            "202613",
            "20260230",
            "2026-W54",
            "2026-W00",
            "2026-W6",
            "2026-W006",
            "20260",
            "2026020612",
            "+20602",
            "２０２６０２",
            "202602.old",
            ".202602",
        ];
        for name in names {
            assert_eq!(Period::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_pattern_comes_before_an_override_and_that_before_the_default() {
        let policies = Policies {
            default: Monthly,
            by_vm: BTreeMap::from([("web".to_owned(), Daily), ("test-1".to_owned(), Daily)]),
            exclude: vec![Pattern::new("test-*")],
        };
        assert_eq!(policies.of("web"), (Daily, ChosenBy::Override));
        assert_eq!(policies.of("WEB"), (Monthly, ChosenBy::Default));
        assert_eq!(policies.of("test-1"), (Never, ChosenBy::Pattern("test-*".into())));
    }

    #[test]
    fn each_row_of_the_table() {
        let today = date(2026, 11, 22);
        // (case, policy, day, folders, period, previous, clock behind)
        type Row = (
            &'static str,
            RotationPolicy,
            Date,
            &'static [&'static str],
            &'static str,
            Option<&'static str>,
            bool,
        );
        let cases: [Row; 11] = [
            ("first", Monthly, today, &[], "202611", None, false),
            ("goes on", Monthly, today, &["202611", "202610"], "202611", Some("202610"), false),
            ("boundary", Monthly, today, &["202610", "202609"], "202611", Some("202610"), false),
            ("boundary after a pause", Daily, today, &["20261119"], "20261122", Some("20261119"), false),
            ("other policies", Weekly, today, &["202611", "20261121"], "2026-W47", None, false),
            ("clock back a day", Daily, today, &["20261123", "20261122"], "20261123", Some("20261122"), true),
            ("clock back over New Year", Weekly, date(2026, 12, 30), &["2027-W01"], "2027-W01", None, true),
            ("folder of a wrong clock", Monthly, today, &["203601", "202611"], "202611", None, false),
            ("both", Monthly, today, &["203601", "202612", "202611"], "202612", Some("202611"), true),
            (
                "empty battery",
                Monthly,
                date(1970, 1, 1),
                &["202611", "202610"],
                "202611",
                Some("202610"),
                true,
            ),
            ("accumulate", Accumulate, today, &["202611"], "accumulate", None, false),
        ];
        for (case, policy, day, folders, period, previous, behind) in cases {
            let folders: Vec<String> = folders.iter().map(|name| (*name).to_owned()).collect();
            let placement = Placement::choose(policy, day, &folders).unwrap();
            assert_eq!(placement.period, period, "{case}");
            assert_eq!(placement.folder, (policy != Accumulate).then(|| period.to_owned()), "{case}");
            assert_eq!(placement.previous.as_deref(), previous, "{case}");
            assert_eq!(placement.clock_behind, behind, "{case}");
        }
        assert_eq!(Placement::choose(Never, today, &[]), None);
    }

    #[test]
    fn a_period_is_never_followed_by_an_earlier_one_whatever_a_clock_does_within_a_month() {
        for policy in [Daily, Weekly, Monthly] {
            let mut folders: Vec<String> = vec![];
            let (mut day, mut last) = (date(2026, 12, 20), None::<Period>);
            for step in 0..400_i64 {
                // Jumps of up to nineteen days to and fro, and on by half a day on average.
                day = day.saturating_add(((step * 7919) % 39 - 18).days()).max(date(2026, 12, 1));
                let placement = Placement::choose(policy, day, &folders).unwrap();
                let period = Period::parse(&placement.period).unwrap();
                let too_far = last.is_some_and(|last| last.first_day() > day.saturating_add(31.days()));
                assert!(
                    too_far || last.is_none_or(|last| last <= period),
                    "{day}: {placement:?} after {last:?}"
                );
                last = Some(period);
                folders.push(placement.period);
            }
        }
    }
}
