//! A deadline: the moment by which an NBD call must have ended.

use std::time::{Duration, Instant};

/// Measures on the monotonic clock from the moment it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    begun: Instant,
    limit: Duration,
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit }
    }

    /// What is left, zero when it has passed.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// The time given, for messages.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }
}
