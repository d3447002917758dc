//! What is said over the two pipes between a run and its guard, a line of JSON each.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::journal::Journal;
use crate::engine::settings::Reserve;

/// Where the scratch files of a job are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scratch {
    pub(crate) dir: PathBuf,
    /// What stays free there.
    pub(crate) reserve: Reserve,
}

/// What a run owns, and where it says so. The guard needs nothing but this to help; the files may be on a disk that hangs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::engine) struct Watched {
    pub(in crate::engine) journal: Box<Journal>,
    /// The journal's file, written once all is seen to be free.
    pub(in crate::engine) file: PathBuf,
    /// The lock under which it is written.
    pub(in crate::engine) lock: PathBuf,
    /// Where later runs of the VM tell that they are there.
    pub(in crate::engine) presence: PathBuf,
}

/// A line from us to the guard.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) enum Order {
    /// From now on we may own this.
    Watch {
        watched: Watched,
        /// If it is not told otherwise after so long, the guard sets the guest free, though we live.
        held_for: Option<Duration>,
    },
    /// Nothing of this run is claimed any more, except perhaps a guest that was not seen to be free.
    Release { id: String, is_free: bool },
    /// We watch the scratch directory of this run's job. When this is not said again soon, the guard watches it.
    Beat { id: String, scratch: Scratch },
    /// The job of this run is over: nobody need watch.
    JobOver { id: String },
    /// Start the domain of this run, paused.
    Start { id: String },
    /// The domain of this run was started by the guard, and belongs to somebody else now: stay as long as it runs.
    Keep { journal: Box<Journal> },
    /// We are about to end. What is left to do?
    End,
}

/// A line from the guard to us, for each order.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) enum Answer {
    Ok,
    /// The guard has ended the job, or does: the scratch directory told it to, when we did not watch.
    EndedJob(String),
    /// The domain was started, and has this number.
    Started(u32),
    NotStarted(String),
    /// It has something to do when we are gone.
    Stays,
}

/// A line with the number that its answer has too: a start takes its time, and holds up no other order.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) struct Numbered<T> {
    pub(in crate::engine) number: u64,
    pub(in crate::engine) line: T,
}
