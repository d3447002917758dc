//! Times that have passed, in words that people use.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `40 s`, `5 min`, `26 h`, `3 days`: cut off, never rounded up.
pub(super) fn age(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < MINUTE => format!("{seconds} s"),
        seconds if seconds < HOUR => format!("{} min", seconds / MINUTE),
        // What was due each day is told in hours while it is one day late.
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_says_enough() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (HOUR - 1, "59 min"),
            (HOUR, "1 h"),
            (26 * HOUR, "26 h"),
            (2 * DAY - 1, "47 h"),
            (2 * DAY, "2 days"),
            (400 * DAY, "400 days"),
        ];
        for (seconds, want) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), want);
        }
    }
}
