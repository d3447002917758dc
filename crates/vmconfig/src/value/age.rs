//! An age with its unit: `26h`.

use std::time::Duration;

use super::Value;

/// How old something may be: whole minutes, hours, days or weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxAge(Duration);

impl MaxAge {
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Value for MaxAge {
    fn parse(text: &str) -> Option<Self> {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let seconds = match unit.trim_start() {
            "m" => MINUTE,
            "h" => HOUR,
            "d" => 24 * HOUR,
            "w" => 7 * 24 * HOUR,
            _ => return None,
        };
        let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
        Some(Self(Duration::from_secs(u64::from(number) * seconds)))
    }

    fn allowed() -> String {
        "a whole number of m (minutes), h (hours), d (days) or w (weeks), such as 26h".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_its_unit() {
        let hours = |text: &str| MaxAge::parse(text).map(|age| age.duration().as_secs_f64() / 3600.0);
        let cases = [
            ("26h", Some(26.0)),
            ("90m", Some(1.5)),
            (" 3 d ", Some(72.0)),
            ("1w", Some(168.0)),
            ("26", None),
            ("0h", None),
            ("h", None),
            ("-1h", None),
            ("1.5h", None),
            ("26H", None),
            ("1é", None),
            ("99999999999d", None),
        ];
        for (text, want) in cases {
            assert_eq!(hours(text), want, "{text:?}");
        }
        assert_eq!(Option::<MaxAge>::parse(""), Some(None));
    }
}
