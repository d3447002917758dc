//! How fast something goes, from how far it was seen to be.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A rate is that of so long.
const OVER: Duration = Duration::from_secs(10);

/// A rate of less would jump.
const AFTER: Duration = Duration::from_secs(1);

/// Bytes that were read, as they were seen for a while.
#[derive(Default)]
pub struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Bytes a second of late, when so many are read by now; `None` while that cannot be told, and before anything was read.
    pub fn rate(&mut self, now: Instant, bytes: u64) -> Option<u64> {
        self.0.push_back((now, bytes));
        while self.0.len() > 2 && self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > OVER) {
            self.0.pop_front();
        }
        let (since, before) = *self.0.front()?;
        let time = now.duration_since(since);
        (time >= AFTER && bytes > 0).then(|| ((bytes - before) as f64 / time.as_secs_f64()) as u64)
    }
}
