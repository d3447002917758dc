//! Values that are whole numbers: with their range in the type, and their unit in its name.

use std::time::Duration;

use super::Value;

/// A whole number without a unit, from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number<const MIN: u32, const MAX: u32>(u32);

/// The same, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OptionalNumber<const MIN: u32, const MAX: u32>(Option<u32>);

/// Whole seconds, from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds<const MIN: u32, const MAX: u32>(u32);

/// Whole mebibytes (1,048,576 bytes), from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mebibytes<const MIN: u32, const MAX: u32>(u32);

/// Whole gibibytes (1,073,741,824 bytes), from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gibibytes<const MIN: u32, const MAX: u32>(u32);

/// Whole percent of something, from 0 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

/// LZ4 compression level, from 1 to 16, or nothing. Never 0: a value of 0 is read as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompressLevel(Option<u32>);

/// How many periods are kept, from 1. A value of 0 is read as 1: what was just written stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Periods(u32);

/// Process priority, from -20 (first) to 19 (last). 0 leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Niceness(i32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Seconds<MIN, MAX> {
    /// The time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl<const MIN: u32, const MAX: u32> Mebibytes<MIN, MAX> {
    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl<const MIN: u32, const MAX: u32> Gibibytes<MIN, MAX> {
    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 30
    }
}

impl Percent {
    pub fn get(self) -> u32 {
        self.0
    }

    /// That share of `whole_bytes`, rounded down.
    pub fn of_bytes(self, whole_bytes: u64) -> u64 {
        let share = u128::from(whole_bytes) * u128::from(self.0) / 100;
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl<const MIN: u32, const MAX: u32> OptionalNumber<MIN, MAX> {
    /// The number, if there is one.
    pub fn get(self) -> Option<u32> {
        self.0
    }
}

impl CompressLevel {
    /// The level, if one is set.
    pub fn get(self) -> Option<u32> {
        self.0
    }
}

impl Periods {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Niceness {
    /// The value for `setpriority`.
    pub fn get(self) -> i32 {
        self.0
    }
}

/// `Value` for a `u32` with the range of its type.
macro_rules! ranged_value {
    ($($type:ident),*) => { $(
        impl<const MIN: u32, const MAX: u32> Value for $type<MIN, MAX> {
            fn parse(text: &str) -> Option<Self> {
                in_range(text, MIN, MAX).map(Self)
            }

            fn allowed() -> String {
                format!("a whole number from {MIN} to {MAX}")
            }
        }
    )* };
}

ranged_value!(Number, Seconds, Mebibytes, Gibibytes);

impl<const MIN: u32, const MAX: u32> Value for OptionalNumber<MIN, MAX> {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(Self(None))
        } else {
            in_range(text, MIN, MAX).map(|number| Self(Some(number)))
        }
    }

    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}, or empty")
    }
}

impl Value for Percent {
    fn parse(text: &str) -> Option<Self> {
        in_range(text, 0, 99).map(Self)
    }

    fn allowed() -> String {
        "a whole number from 0 to 99".to_owned()
    }
}

impl Value for CompressLevel {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(None));
        }
        in_range(text, 0, 16).map(|level| Self(Some(level.max(1))))
    }

    fn allowed() -> String {
        "a whole number from 0 to 16, or empty".to_owned()
    }

    fn remark(text: &str) -> Option<&'static str> {
        (in_range(text, 0, 0) == Some(0))
            .then_some("level 0 is read as 1, the fastest: backups are always compressed")
    }
}

impl Value for Periods {
    fn parse(text: &str) -> Option<Self> {
        in_range(text, 0, 100_000).map(|periods| Self(periods.max(1)))
    }

    fn allowed() -> String {
        "a whole number from 0 to 100000".to_owned()
    }

    fn remark(text: &str) -> Option<&'static str> {
        (in_range(text, 0, 0) == Some(0)).then_some("0 is read as 1: the period just written always stays")
    }
}

impl Value for Niceness {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|nice| (-20..=19).contains(nice)).map(Self)
    }

    fn allowed() -> String {
        "a whole number from -20 to 19".to_owned()
    }
}

fn in_range(text: &str, min: u32, max: u32) -> Option<u32> {
    text.trim().parse().ok().filter(|number| (min..=max).contains(number))
}
