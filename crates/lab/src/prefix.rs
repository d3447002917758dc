//! Names of the lab's domains and folders, which tell the process that made them.

use std::sync::atomic::{AtomicU32, Ordering};

/// `vmbt-PID-N-`: begins the name of every domain and directory of one [`Lab`](super::Lab).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// The next unused prefix of this process.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("vmbt-{}-{number}-", std::process::id()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// True for a name of the exact form `vmbt-PID-N-…` whose process no longer runs.
pub(super) fn is_stale(name: &str) -> bool {
    owner(name).is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
}

/// The process that made a domain or directory, if its name is one of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.trim_start_matches('.').strip_prefix("vmbt-")?.split_once('-')?;
    let (number, _) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}
