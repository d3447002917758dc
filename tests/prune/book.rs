//! A database that remembers what it was told.

use std::collections::BTreeSet;
use std::sync::Mutex;

use vmbackup::retention::{PeriodId, RemovalEvent, RemovalOutcome, Replica, RetentionLog};

/// What retention asks and tells.
#[derive(Default)]
pub(crate) struct Book {
    /// Periods that may not go.
    pub(crate) protected: BTreeSet<String>,
    /// It cannot be asked.
    pub(crate) lost: bool,
    pub(crate) recorded: Mutex<Vec<String>>,
}

impl Book {
    /// A line for each event: what, who, where.
    pub(crate) fn events(&self) -> Vec<String> {
        self.recorded.lock().expect("no test panics in there").clone()
    }
}

impl RetentionLog for Book {
    fn protected(&self, _vm: &str, period: &PeriodId) -> Option<bool> {
        (!self.lost).then(|| self.protected.contains(period.as_str()))
    }

    fn replica(&self, _vm: &str, _period: &PeriodId) -> Replica {
        Replica::NotUsed
    }

    fn record(&self, event: &RemovalEvent<'_>) {
        let what = match &event.what {
            RemovalOutcome::Removed => "removed".to_owned(),
            RemovalOutcome::Kept(why) => {
                assert!(why.is_guard(), "only guards are recorded");
                format!("kept {why:?}")
            }
            RemovalOutcome::Failed(_) => "failed".to_owned(),
        };
        let line =
            format!("{what} {} {}", event.removal.initiator.word(), event.removal.place.path().display());
        self.recorded.lock().expect("no test panics in there").push(line);
    }
}
