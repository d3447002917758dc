//! What time it is: asked of one value that is passed in, so that tests can run a year in a minute.
//!
//! Deadlines do not belong here: they are measured with `Instant`, which no one sets back.

use std::time::SystemTime;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// The system's clock, or one that is ahead of it or behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    ahead: SignedDuration,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows this moment now, and goes on from there.
    pub fn from(moment: Timestamp) -> Self {
        Self { ahead: moment.duration_since(Timestamp::now()) }
    }

    /// This moment.
    pub fn now(self) -> Timestamp {
        // Out of the calendar's range only when a test asked for it.
        Timestamp::now().saturating_add(self.ahead).unwrap_or(Timestamp::MAX)
    }

    /// This moment in local time: periods and names of folders follow it.
    pub fn local(self) -> Zoned {
        self.now().to_zoned(TimeZone::system())
    }

    /// This moment as files have it.
    pub fn file_time(self) -> SystemTime {
        self.now().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_from_the_moment_it_was_given() {
        let moment: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::from(moment);
        let passed = clock.now().duration_since(moment);
        assert!(!passed.is_negative() && passed < SignedDuration::from_mins(5), "{passed:?}");
        assert!(clock.now() <= clock.now());
        assert!(Clock::system().now().duration_since(Timestamp::now()).abs() < SignedDuration::from_mins(5));
    }
}
