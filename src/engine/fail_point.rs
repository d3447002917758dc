//! Named places of a run where tests kill or hold the program, to prove that nothing is lost there.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Every place, in the order a run passes them.
pub const FAIL_POINTS: &[&str] = &[
    "started",
    "journal-written",
    "checkpoints-dropped",
    "witness-created",
    "held",
    "begun",
    "released",
    "copying",
    "copied",
    "job-ended",
    "files-written",
    "publishing",
    "archiving",
    "archive-complete",
    "leaving",
    "archived",
    "small-files-renamed",
    "first-stream-renamed",
    "streams-renamed",
    "published",
];

/// Nobody holds a program longer than this.
const HOLD_LIMIT: Duration = Duration::from_secs(300);

/// What to do where.
#[derive(Clone, Debug, Default)]
pub struct FailPoints {
    kill_at: Option<String>,
    hold_at: Option<(String, PathBuf)>,
}

impl FailPoints {
    /// Reads `NAME` (die there, as by `kill -9`) or `NAME=FILE` (create FILE and wait until it is removed).
    /// `None` for a name that does not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, file) = text.split_once('=').map_or((text, None), |(n, f)| (n, Some(f)));
        if !FAIL_POINTS.contains(&name) {
            return None;
        }
        Some(match file {
            Some(file) => Self { hold_at: Some((name.to_owned(), file.into())), kill_at: None },
            None => Self { kill_at: Some(name.to_owned()), hold_at: None },
        })
    }

    /// Says that the run has come to a place.
    pub fn at(&self, name: &str) {
        tracing::debug!("stage {name}");
        self.at_while_held(name);
    }

    /// The same at a place where the guest is held still: nothing is written down.
    pub fn at_while_held(&self, name: &str) {
        debug_assert!(FAIL_POINTS.contains(&name), "{name} is not in the list");
        if self.kill_at.as_deref() == Some(name) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        let Some((_, file)) = self.hold_at.as_ref().filter(|(at, _)| at == name) else { return };
        if fs::write(file, name).is_ok() {
            let until = Instant::now() + HOLD_LIMIT;
            while file.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
