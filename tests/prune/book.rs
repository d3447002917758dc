//! A database that remembers what it was told.

use std::collections::BTreeSet;
use std::sync::Mutex;

use vmbackup::retention::{Event, Happened, Ledger, PeriodId, Replica};

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

impl Ledger for Book {
    fn protected(&self, _vm: &str, period: &PeriodId) -> Option<bool> {
        (!self.lost).then(|| self.protected.contains(period.as_str()))
    }

    fn replica(&self, _vm: &str, _period: &PeriodId) -> Replica {
        Replica::NotUsed
    }

    fn record(&self, event: &Event<'_>) {
        let what = match &event.what {
            Happened::Removed => "removed".to_owned(),
            Happened::Kept(why) => {
                assert!(why.is_guard(), "only guards are recorded");
                format!("kept {why:?}")
            }
            Happened::Failed(_) => "failed".to_owned(),
        };
        let line = format!("{what} {} {}", event.doomed.cause.word(), event.doomed.place.path().display());
        self.recorded.lock().expect("no test panics in there").push(line);
    }
}
