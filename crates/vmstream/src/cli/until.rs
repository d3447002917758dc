//! The restore point that a person means.

use super::failure::Failure;
use std::str::FromStr;
use vmstream::chain::when::{last_second, seconds};
use vmstream::chain::{BackupSet, CheckpointName, NameError, Point, PointId};

/// How a point is named on the command line.
pub(super) const HELP: &str = "Restore point: latest, N or its full name as info shows it, or a date (the newest point taken until then: \
     2026-11-22 or \"2026-11-22 20:03\") [default: latest]";

/// A point as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Latest,
    Point(PointId),
    /// The newest that was taken until then: `2026-11-22T20:03:59`.
    Time(String),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["latest", "newest"].contains(&text) {
            return Ok(Self::Latest);
        }
        if let Ok(number) = text.parse() {
            return Ok(Self::Point(PointId::Checkpoint(CheckpointName::new(number))));
        }
        if let Some(time) = last_second(text) {
            return Ok(Self::Time(time));
        }
        text.parse().map(Self::Point).map_err(|error: NameError| {
            format!("{error}: give latest, a number, a name as info shows it, or a date such as 2026-11-22")
        })
    }
}

impl Until {
    /// The point of this set that is meant; the newest, when none is named.
    pub(super) fn find<'a>(until: Option<&Self>, set: &'a BackupSet) -> Result<&'a Point, Failure> {
        let none = || Failure::refused(format!("{} holds no restore point", set.dir.display()));
        match until {
            None | Some(Self::Latest) => set.newest().ok_or_else(none),
            Some(Self::Point(id)) => {
                set.point(*id).map_err(|error| Failure::of(&error, super::exit::Exit::CannotTell))
            }
            Some(Self::Time(time)) => {
                let dated = || set.points.iter().filter_map(|point| Some((seconds(point.taken()?), point)));
                let before = dated().filter(|(at, _)| *at <= time.as_str());
                before.max_by_key(|(at, _)| *at).map(|(_, point)| point).ok_or_else(|| {
                    match dated().min_by_key(|(at, _)| *at) {
                        None => none(),
                        Some((at, oldest)) => Failure::refused(format!(
                            "No restore point was taken until {}: the oldest is {}, taken {}",
                            time.replace('T', " "),
                            oldest.id,
                            at.replace('T', " ")
                        )),
                    }
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_in_many_ways() {
        let checkpoint = |number| Until::Point(PointId::Checkpoint(CheckpointName::new(number)));
        let time = |text: &str| Until::Time(text.to_owned());
        let cases = [
            ("latest", Some(Until::Latest)),
            ("2", Some(checkpoint(2))),
            ("virtnbdbackup.12", Some(checkpoint(12))),
            ("2026-11-22", Some(time("2026-11-22T23:59:59"))),
            ("2026-11-22 20:03", Some(time("2026-11-22T20:03:59"))),
            ("2026-11-22T20:03:07", Some(time("2026-11-22T20:03:07"))),
            ("2026-11-22 20", None),
            ("22.11.2026", None),
            ("yesterday", None),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse().ok(), want, "{text}");
        }
    }
}
