//! How far something has come, as a line that fits a terminal.

use std::time::Duration;

use crate::text::size;

/// Columns that stay free on the right: a terminal shows `^C` behind the last line, which must not begin another one.
pub const MARGIN: usize = 3;

/// What a bar has at least and at most, and what it keeps where how much of all that is is told too.
const BAR_COLUMNS: (usize, usize) = (10, 50);
const BESIDE_BYTES_COLUMNS: usize = 16;

const RATE_COLUMNS: usize = 12;
const LEFT_COLUMNS: usize = 12;
const BYTES_COLUMNS: usize = 25;

/// What is left cannot be told before so much time, and before so much of it is done.
const GUESS_AFTER: Duration = Duration::from_secs(3);
const GUESS_AFTER_PERCENT: u64 = 1;

/// How far something has come.
pub struct Bar {
    /// What stands before it, as wide as it is to be. May be empty.
    pub name: String,
    /// All there is to do.
    pub size_bytes: u64,
    /// What is done of it.
    pub position: u64,
    /// Bytes a second that were read; `None` where that cannot be told.
    pub rate: Option<u64>,
    /// Since when it is done.
    pub elapsed: Duration,
}

impl Bar {
    /// The line, for a terminal of so many columns.
    pub fn line(&self, columns: usize) -> String {
        let percent = self.position.min(self.size_bytes) * 100 / self.size_bytes.max(1);
        let rate = self.rate.map(rate_text).unwrap_or_default();
        let left = self.left(percent).map(|left| format!("{} left", time_text(left))).unwrap_or_default();
        let name = if self.name.is_empty() { String::new() } else { format!("{} ", self.name) };
        let rest = |bytes: &str| format!(" {percent:>3}%{bytes} {rate:>RATE_COLUMNS$} {left:>LEFT_COLUMNS$}");
        let room = |rest: &str| {
            let taken = MARGIN + name.chars().count() + 2 + rest.chars().count();
            columns.saturating_sub(taken)
        };
        let bytes = format!("{} of {}", size(self.position), size(self.size_bytes));
        let full = rest(&format!("  {bytes:>BYTES_COLUMNS$}"));
        let rest = if room(&full) >= BESIDE_BYTES_COLUMNS { full } else { rest("") };
        let (least, most) = BAR_COLUMNS;
        fitted(&format!("{name}[{}]{rest}", drawn(percent, room(&rest).clamp(least, most))), columns)
    }

    /// How long the rest takes if it goes on as so far.
    fn left(&self, percent: u64) -> Option<Duration> {
        if self.elapsed < GUESS_AFTER || percent < GUESS_AFTER_PERCENT {
            return None;
        }
        let rest = self.size_bytes.saturating_sub(self.position) as f64 / self.position as f64;
        Some(self.elapsed.mul_f64(rest))
    }
}

/// As much of a line as fits a terminal of so many columns.
pub fn fitted(line: &str, columns: usize) -> String {
    let line: String = line.chars().take(columns.saturating_sub(MARGIN)).collect();
    line.trim_end().to_owned()
}

/// Bytes a second.
pub fn rate_text(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

fn drawn(percent: u64, columns: usize) -> String {
    let full = columns * usize::try_from(percent).unwrap_or(0) / 100;
    let head = if full < columns { ">" } else { "" };
    format!("{:columns$}", format!("{}{head}", "=".repeat(full)))
}

/// Two units at most: the rest is a guess.
fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn bar(name: &str, position: u64, seconds: u64) -> Bar {
        let rate = (seconds > 0).then_some(118 << 20);
        let elapsed = Duration::from_secs(seconds);
        Bar { name: name.into(), size_bytes: 40 * GIB, position, rate, elapsed }
    }

    #[test]
    fn a_line_fits_and_tells_what_it_has_room_for() {
        for columns in [0, 20, 80, 120, 400] {
            for name in ["", "übung vda"] {
                let line = bar(name, 30 * GIB, 300).line(columns);
                assert!(line.chars().count() <= columns.saturating_sub(MARGIN), "{columns}: {line}");
            }
        }
        for (name, columns, want) in [
            ("", 80, "[============>    ]  75%       30.0 GiB of 40.0 GiB    118 MiB/s   1m40s left"),
            ("a vda", 80, "a vda [============================>         ]  75%    118 MiB/s   1m40s left"),
            (
                "a vda",
                90,
                "a vda [===============>     ]  75%       30.0 GiB of 40.0 GiB    118 MiB/s   1m40s left",
            ),
        ] {
            assert_eq!(bar(name, 30 * GIB, 300).line(columns), want, "{columns}");
        }
    }

    #[test]
    fn nothing_is_guessed_before_there_is_something_to_guess_from() {
        for (position, seconds, want) in [
            (20 * GIB, 2, None),
            (0, 600, None),
            (GIB / 4, 600, None),
            (10 * GIB, 10, Some("30s")),
            (10 * GIB, 1000, Some("50m00s")),
            (10 * GIB, 10_000, Some("8h20m")),
            (10 * GIB, 100_000, Some("3d11h")),
        ] {
            let line = bar("", position, seconds).line(80);
            assert_eq!(line.contains("left"), want.is_some(), "{line}");
            assert!(line.contains(want.unwrap_or_default()), "{line}");
        }
    }
}
