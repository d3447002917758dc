//! Which restore point of a set is meant.

use std::str::FromStr;

use vmstream::chain::when::{last_second, seconds};
use vmstream::chain::{BackupSet, CheckpointName, Point, PointId};

use super::ResolveError;

/// A restore point as a person names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PointWish {
    /// The newest.
    #[default]
    Latest,
    /// The full that a chain begins with; a copy is one itself.
    Full,
    /// This one.
    Point(PointId),
    /// The newest that was taken until then: `2026-11-22T20:03:59`.
    Until(String),
}

impl FromStr for PointWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "full" => Ok(Self::Full),
            _ => match text.parse() {
                Ok(number) => Ok(Self::Point(PointId::Checkpoint(CheckpointName::new(number)))),
                Err(_) => text.parse().map(Self::Point).map_err(|_| {
                    format!("{text:?} names no restore point: give latest, full, or a number as --list-restore-points shows it")
                }),
            },
        }
    }
}

impl PointWish {
    /// The newest point until a day, a minute or a second.
    pub fn until(text: &str) -> Result<Self, String> {
        last_second(text)
            .map(Self::Until)
            .ok_or_else(|| format!("{text:?} is no date: give 2026-11-22, or \"2026-11-22 20:03\""))
    }

    /// The point of a set.
    ///
    /// # Errors
    /// Where the set has none such.
    pub fn find<'a>(&self, vm: &str, set: &'a BackupSet) -> Result<&'a Point, ResolveError> {
        let none = || ResolveError::NoData { dir: set.dir.clone() };
        match self {
            Self::Latest => set.newest().ok_or_else(none),
            Self::Full => set.points.first().ok_or_else(none),
            // A copy is listed under the number of a full.
            Self::Point(id) => match set.points.as_slice() {
                [only] if only.id == PointId::Copy && *id == PointId::Checkpoint(CheckpointName::FIRST) => {
                    Ok(only)
                }
                _ => Ok(set.point(*id)?),
            },
            Self::Until(time) => {
                let dated = || set.points.iter().filter_map(|point| Some((seconds(point.taken()?), point)));
                let before = dated().filter(|(at, _)| *at <= time.as_str()).max_by_key(|(at, _)| *at);
                before.map(|(_, point)| point).ok_or_else(|| ResolveError::NothingUntil {
                    vm: vm.to_owned(),
                    until: time.clone(),
                    oldest: dated().min_by_key(|(at, _)| *at).map(|(at, point)| (point.id, at.to_owned())),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_as_the_bash_program_does_and_in_full() {
        let checkpoint = |number| Ok(PointWish::Point(PointId::Checkpoint(CheckpointName::new(number))));
        let cases = [
            ("latest", Ok(PointWish::Latest)),
            ("full", Ok(PointWish::Full)),
            ("0", checkpoint(0)),
            ("17", checkpoint(17)),
            ("virtnbdbackup.3", checkpoint(3)),
            ("copy", Ok(PointWish::Point(PointId::Copy))),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse(), want, "{text}");
        }
        for text in ["", "-1", "3x", "newest one", "2026-11-22"] {
            assert!(text.parse::<PointWish>().is_err(), "{text}");
        }
        assert_eq!(PointWish::until("2026-11-22"), Ok(PointWish::Until("2026-11-22T23:59:59".into())));
        assert!(PointWish::until("yesterday").is_err());
    }
}
