//! The time and the session that a row of the database is written with.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rusqlite::ToSql;

const FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// The number of a session: the second it began, or the next free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub i64);

impl ToSql for SessionId {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// Which session writes a row, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// `None` where the session itself has no row.
    pub session: Option<SessionId>,
    /// The time of the row. The database has whole seconds, in UTC.
    pub at: Timestamp,
}

/// A time as the database has it: UTC, whole seconds, no zone.
pub(super) fn utc(at: Timestamp) -> String {
    at.strftime(FORMAT).to_string()
}

/// The time of a text in that form, `None` for any other.
pub(super) fn parse_utc(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime(FORMAT, text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_without_a_zone() {
        let at: Timestamp = "2026-11-22T20:02:25.9Z".parse().unwrap();
        assert_eq!(utc(at), "2026-11-22 20:02:25");
        assert_eq!(parse_utc("2026-11-22 20:02:25"), Some("2026-11-22T20:02:25Z".parse().unwrap()));
        for other in ["", "2026-11-22", "2026-11-22 20:02:25 CET", "yesterday"] {
            assert_eq!(parse_utc(other), None, "{other}");
        }
    }
}
