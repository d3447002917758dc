//! In which order the domains of a run begin.

use std::cmp::Reverse;
use std::time::Duration;

/// The places of the names, longest first: so that a long backup does not begin when all others are done.
///
/// One without a history comes first: its backup is a full. The others by what their last backups took.
pub(super) fn longest_first<'a>(
    names: impl Iterator<Item = &'a str>,
    took: impl Fn(&str) -> Option<Duration>,
) -> Vec<usize> {
    let mut places: Vec<(usize, Duration)> =
        names.enumerate().map(|(place, name)| (place, took(name).unwrap_or(Duration::MAX))).collect();
    places.sort_by_key(|(_, took)| Reverse(*took));
    places.into_iter().map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_ones_first_then_the_longest_and_equal_ones_as_they_were() {
        let took = |name: &str| match name {
            "short" | "short too" => Some(1),
            "long" => Some(100),
            _ => None,
        };
        let names = ["short", "new", "long", "short too", "new too"];
        let order = longest_first(names.into_iter(), |name| took(name).map(Duration::from_secs));
        assert_eq!(order, [1, 4, 2, 0, 3]);
    }
}
