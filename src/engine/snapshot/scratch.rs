//! The scratch directory: whether it can be used before a guest is held, and the watch over it while a job runs.
//!
//! Before the guest overwrites a block, QEMU copies the old content into the scratch file. When that cannot be
//! written, the guest's own write fails. So the job is ended while there is still room: a failed backup is better
//! than a guest with I/O errors.
//!
//! libvirt makes the scratch files while the guest is held. When their storage hangs then, it serves no other call for that
//! VM: nobody can set the guest free before the storage is back. So a file is made, written and removed there right
//! before. What hangs in the moment between cannot be helped.
//!
//! All of this is done by processes of their own, which can be left behind.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::SnapshotError;
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::plan::space::{self, Space};
use crate::engine::settings::Reserve;
use vmhost::libvirt::Domain;
use vmprogram::{Program, ProgramError, Running};
use vmstream::text;

/// The first argument that makes this program tell the space of the directory that follows.
pub const SPACE_ARGUMENT: &str = "--internal-space";

/// How often to look. A guest can fill a gigabyte in a second.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long to wait for a look before seeing whether the backup is over.
const WAIT: Duration = Duration::from_millis(50);

/// A scratch directory that does not answer for so long hangs, and with it every write of the guest that needs it.
pub(crate) const HANG_LIMIT: Duration = Duration::from_secs(15);

/// How often to ask the job for its statistics.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The job is ended when the space would last for so many more looks at the rate of the last one.
const LOOKS_AHEAD: u64 = 6;

/// On a small file system the reserve from the settings would be used up by one burst of the guest: it is never less
/// than this, nor than a quarter of the file system where that is smaller.
const FLOOR_BYTES: u64 = 128 << 20;

/// Bytes that stay free in a scratch directory.
fn kept_bytes(space: Space, reserve: Reserve) -> u64 {
    reserve.bytes_of(space.total_bytes).max(FLOOR_BYTES.min(space.total_bytes / 4))
}

/// True when the space that is left, or that will be left soon at this rate, is below the reserve.
fn too_low(now: Space, before: Space, reserve: Reserve) -> bool {
    let lost = before.free_bytes.saturating_sub(now.free_bytes);
    let soon = now.free_bytes.saturating_sub(lost.saturating_mul(LOOKS_AHEAD));
    let keep = kept_bytes(now, reserve);
    // The reserve itself is what a burst may use up while the job is being ended.
    now.free_bytes < keep || soon < keep / 2
}

/// Tells the free and the total bytes of a directory's file system, a line each time, until nobody listens any more.
///
/// A process of its own does this ([`SPACE_ARGUMENT`]): one that asks storage that hangs can be left behind, a thread of
/// the program could not.
pub fn tell_space(dir: &Path) {
    loop {
        let line = match space::of(dir) {
            Ok(space) => format!("{} {}\n", space.free_bytes, space.total_bytes),
            // It answers, and that is what counts here.
            Err(error) => format!("{error}\n"),
        };
        let mut out = io::stdout().lock();
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
        drop(out);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Nothing when it is not known.
fn told_used(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(", this backup used {}", text::size(bytes)) }
}

fn told_space(line: &str) -> Option<Space> {
    let (free, total) = line.split_once(' ')?;
    Some(Space { free_bytes: free.parse().ok()?, total_bytes: total.parse().ok()? })
}

/// The free and the total bytes of the directory's file system.
fn space_now(dir: &Path, cancel: &Cancel) -> Result<Space, SnapshotError> {
    let unusable = |why: String| SnapshotError::Scratch { dir: dir.to_owned(), why };
    let mut teller = teller(dir).map_err(|error| unusable(error.to_string()))?;
    let asked = Instant::now();
    loop {
        if let Some(line) = teller.newest_line(WAIT) {
            return told_space(&line).ok_or_else(|| unusable(line));
        }
        cancel.check()?;
        if asked.elapsed() >= HANG_LIMIT {
            return Err(unusable(format!("it does not answer for {} s", HANG_LIMIT.as_secs())));
        }
    }
}

/// Sees whether the directory has more room than it keeps.
pub(crate) fn check_space(dir: &Path, reserve: Reserve, cancel: &Cancel) -> Result<(), SnapshotError> {
    let space = space_now(dir, cancel)?;
    let reserve = kept_bytes(space, reserve);
    if space.free_bytes > reserve {
        return Ok(());
    }
    Err(SnapshotError::ScratchSpace {
        dir: dir.to_owned(),
        reserve: text::size(reserve),
        free: text::size(space.free_bytes),
    })
}

/// Sees whether `file` can be made in the directory now, and removes it again.
pub(crate) fn try_making(dir: &Path, file: &Path, cancel: &Cancel) -> Result<(), SnapshotError> {
    let unusable = |why: String| SnapshotError::Scratch { dir: dir.to_owned(), why };
    match vmprogram::try_writing(file, HANG_LIMIT, &|| cancel.stopped().is_some()) {
        Ok(tried) => tried.map_err(unusable),
        Err(ProgramError::TimedOut { seconds }) => {
            Err(unusable(format!("a file could not be made there in {seconds} s")))
        }
        Err(error) => {
            cancel.check()?;
            Err(unusable(error.to_string()))
        }
    }
}

fn teller(dir: &Path) -> Result<Running, ProgramError> {
    Program::itself(SPACE_ARGUMENT).arg(dir).start()
}

/// Watches the space until `finished` or the backup is stopped, and stops it when the space runs low, or when the directory
/// hangs. The caller then ends the job of a stopped backup at once.
pub(crate) fn watch(
    dir: &Path,
    reserve: Reserve,
    peak_bytes: &AtomicU64,
    cancel: &Cancel,
    finished: &dyn Fn() -> bool,
) {
    heed(|| teller(dir), HANG_LIMIT, dir, reserve, peak_bytes, cancel, finished);
}

/// Heeds what programs tell that `start` starts, one after the other ended.
fn heed(
    start: impl Fn() -> Result<Running, ProgramError>,
    limit: Duration,
    dir: &Path,
    reserve: Reserve,
    peak_bytes: &AtomicU64,
    cancel: &Cancel,
    finished: &dyn Fn() -> bool,
) {
    let mut teller = start();
    let (mut before, mut answered) = (None, Instant::now());
    while !finished() && cancel.stopped().is_none() {
        let line = teller.as_mut().ok().and_then(|teller| teller.newest_line(WAIT));
        if answered.elapsed() >= limit {
            let (dir, seconds) = (dir.display().to_string(), limit.as_secs());
            return cancel.stop(StopReason::ScratchHangs { dir, seconds });
        }
        let Some(line) = line else {
            if teller.as_mut().map_or(true, |teller| teller.ended().is_some()) {
                std::thread::sleep(WAIT);
                let asked = Instant::now();
                teller = start();
                // A log that hangs can hold up the start: that says nothing of the directory.
                answered += asked.elapsed();
            }
            continue;
        };
        answered = Instant::now();
        let Some(now) = told_space(&line) else { continue };
        if too_low(now, before.unwrap_or(now), reserve) {
            return cancel.stop(StopReason::ScratchFull {
                free: text::size(now.free_bytes),
                used: told_used(peak_bytes.load(Ordering::Relaxed)),
                reserve: text::size(kept_bytes(now, reserve)),
                dir: dir.display().to_string(),
            });
        }
        before = Some(now);
    }
}

/// Keeps the most bytes that the scratch files held, as the job's statistics tell, until `done` says so. Apart from
/// the watch over the space: the daemon may take its time to answer.
pub(crate) fn watch_job(domain: &Domain, peak_bytes: &AtomicU64, done: &dyn Fn(Duration) -> bool) {
    while !done(STATS_EVERY) {
        if let Ok(stats) = domain.job_stats() {
            peak_bytes.fetch_max(stats.scratch_used_bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a watch comes to over what a shell tells.
    fn watched(script: &str, limit: Duration, until: Duration) -> Option<StopReason> {
        let start = || Program::new("sh").args(["-c", script]).start();
        let (cancel, began) = (Cancel::default(), Instant::now());
        let reserve = Reserve { bytes: 10, percent: 1 };
        let peak = AtomicU64::new(0);
        heed(start, limit, Path::new("/scratch"), reserve, &peak, &cancel, &|| began.elapsed() >= until);
        cancel.stopped()
    }

    #[test]
    fn a_directory_that_says_nothing_for_long_hangs() {
        let (soon, later) = (Duration::from_millis(300), Duration::from_secs(60));
        let hangs = |script| {
            let stopped = watched(script, soon, later);
            assert!(matches!(stopped, Some(StopReason::ScratchHangs { .. })), "{script}: {stopped:?}");
        };
        hangs("exec sleep 60");
        // It answered once, and that was long ago; or it dies each time before it says anything.
        hangs("echo 5000 10000; exec sleep 60");
        hangs("exit 1");
        // Errors are answers, and who dies after an answer is started again.
        for script in ["while echo Permission denied; do sleep 0.02; done", "echo 5000 10000; sleep 0.1"] {
            assert_eq!(watched(script, later, soon * 4), None, "{script}");
        }
        let full = watched("echo 50 10000; exec sleep 60", later, later);
        assert!(matches!(full, Some(StopReason::ScratchFull { .. })), "{full:?}");
    }

    #[test]
    fn keeps_more_of_a_small_file_system_than_its_share() {
        const MIB: u64 = 1 << 20;
        let reserve = Reserve { bytes: 1024 * MIB, percent: 5 };
        for (total, want) in [(64, 16), (400, 100), (1000, 128), (10_000, 500), (100_000, 1024)] {
            let space = Space { free_bytes: 0, total_bytes: total * MIB };
            assert_eq!(kept_bytes(space, reserve), want * MIB, "{total} MiB");
        }
    }

    #[test]
    fn ends_below_the_reserve_and_ahead_of_a_burst() {
        const MIB: u64 = 1 << 20;
        let space = |free: u64| Space { free_bytes: free * MIB, total_bytes: 10_000 * MIB };
        let reserve = Reserve { bytes: 1024 * MIB, percent: 5 };
        let cases = [
            ("plenty", 5000, 5000, false),
            ("just above", 500, 500, false),
            ("below", 499, 499, true),
            ("a burst of 100 MiB a look", 700, 800, true),
            ("the same with plenty left", 5000, 5100, false),
        ];
        for (name, now, before, want) in cases {
            assert_eq!(too_low(space(now), space(before), reserve), want, "{name}");
        }
    }
}
