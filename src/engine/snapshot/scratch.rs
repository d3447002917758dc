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

use std::iter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::SnapshotError;
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::settings::Reserve;
use vmprogram::{ProgramError, Room, Space, Stopped};
use vmstream::text;

/// How often to look. A guest can fill a gigabyte in a second.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A scratch directory that does not answer for so long hangs, and with it every write of the guest that needs it.
pub(crate) const HANG_LIMIT: Duration = Duration::from_secs(15);

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

/// Nothing when it is not known.
fn told_used(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(", this backup used {}", text::size(bytes)) }
}

/// What is seen of the directory at one time.
struct Seen {
    space: Space,
    used_bytes: u64,
}

/// Looks at the directory, and at what `files` take of it. `Ok(Err(_))`: it answers, and says why it cannot tell.
fn look(dir: &Path, files: &[PathBuf], stopped: Stopped<'_>) -> Result<Result<Seen, String>, ProgramError> {
    let paths: Vec<PathBuf> = iter::once(dir.to_owned()).chain(files.iter().cloned()).collect();
    let mut rooms = vmprogram::rooms(&paths, HANG_LIMIT, stopped)?.into_iter();
    let of_dir = rooms.next().unwrap_or_else(|| Err("nothing is told of it".to_owned()));
    // A file that is not there yet takes nothing.
    let used_bytes = rooms.flatten().map(|room: Room| room.allocated_bytes).sum();
    Ok(of_dir.map(|room| Seen { space: room.space, used_bytes }))
}

/// Sees whether the directory has more room than it keeps.
pub(crate) fn check_space(dir: &Path, reserve: Reserve, cancel: &Cancel) -> Result<(), SnapshotError> {
    let unusable = |why: String| SnapshotError::Scratch { dir: dir.to_owned(), why };
    let space = match look(dir, &[], &|| cancel.stopped().is_some()) {
        Ok(seen) => seen.map_err(unusable)?.space,
        Err(ProgramError::TimedOut { seconds }) => {
            return Err(unusable(format!("it does not answer for {seconds} s")));
        }
        Err(error) => {
            cancel.check()?;
            return Err(unusable(error.to_string()));
        }
    };
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

/// Watches the space until `finished` or the backup is stopped, and stops it when the space runs low, or when the directory
/// hangs. The caller then ends the job of a stopped backup at once. `peak_bytes` becomes what `files` took at most.
pub(crate) fn watch(
    dir: &Path,
    files: &[PathBuf],
    reserve: Reserve,
    peak_bytes: &AtomicU64,
    cancel: &Cancel,
    finished: &dyn Fn() -> bool,
) {
    let look = || look(dir, files, &|| finished() || cancel.stopped().is_some());
    heed(look, HANG_LIMIT, dir, reserve, peak_bytes, cancel, finished);
}

/// Heeds what each look tells.
fn heed(
    look: impl Fn() -> Result<Result<Seen, String>, ProgramError>,
    limit: Duration,
    dir: &Path,
    reserve: Reserve,
    peak_bytes: &AtomicU64,
    cancel: &Cancel,
    finished: &dyn Fn() -> bool,
) {
    let (mut before, mut answered) = (None, Instant::now());
    while !finished() && cancel.stopped().is_none() {
        let asked = Instant::now();
        let hangs = match look() {
            Ok(Ok(Seen { space: now, used_bytes })) => {
                let peak = peak_bytes.fetch_max(used_bytes, Ordering::Relaxed).max(used_bytes);
                if too_low(now, before.unwrap_or(now), reserve) {
                    return cancel.stop(StopReason::ScratchFull {
                        free: text::size(now.free_bytes),
                        used: told_used(peak),
                        reserve: text::size(kept_bytes(now, reserve)),
                        dir: dir.display().to_string(),
                    });
                }
                (before, answered) = (Some(now), Instant::now());
                false
            }
            // It answers, and that is what counts here.
            Ok(Err(_)) => {
                answered = Instant::now();
                false
            }
            Err(ProgramError::TimedOut { .. }) => true,
            // Whoever looks dies, or cannot be started.
            Err(_) => answered.elapsed() >= limit,
        };
        if hangs {
            let (dir, seconds) = (dir.display().to_string(), limit.as_secs());
            return cancel.stop(StopReason::ScratchHangs { dir, seconds });
        }
        // Whoever finishes wakes this thread.
        thread::park_timeout(LOOK_EVERY.saturating_sub(asked.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a watch comes to over looks that come out so.
    fn watched(
        look: impl Fn() -> Result<Result<Seen, String>, ProgramError>,
        limit: Duration,
        until: Duration,
    ) -> Option<StopReason> {
        let (cancel, began) = (Cancel::default(), Instant::now());
        let reserve = Reserve { bytes: 10, percent: 1 };
        let peak = AtomicU64::new(0);
        heed(look, limit, Path::new("/scratch"), reserve, &peak, &cancel, &|| began.elapsed() >= until);
        cancel.stopped()
    }

    fn seen(free_bytes: u64, used_bytes: u64) -> Result<Result<Seen, String>, ProgramError> {
        Ok(Ok(Seen { space: Space { free_bytes, total_bytes: 10_000 }, used_bytes }))
    }

    #[test]
    fn a_directory_that_says_nothing_for_long_hangs() {
        let (soon, later) = (Duration::from_millis(300), Duration::from_secs(60));
        let dies = || Err(ProgramError::Start { source: std::io::ErrorKind::NotFound.into() });
        for stopped in [
            watched(|| Err(ProgramError::TimedOut { seconds: 15 }), later, later),
            watched(dies, soon, later),
        ] {
            assert!(matches!(stopped, Some(StopReason::ScratchHangs { .. })), "{stopped:?}");
        }
        // Errors are answers, and one who dies between answers does no harm.
        let count = AtomicU64::new(0);
        let at_times = || if count.fetch_add(1, Ordering::Relaxed) % 2 == 0 { dies() } else { seen(5000, 0) };
        assert_eq!(watched(at_times, soon, soon * 4), None);
        assert_eq!(watched(|| Ok(Err("Permission denied".to_owned())), soon, soon * 4), None);
    }

    #[test]
    fn the_look_that_ends_a_job_tells_what_the_job_has_used() {
        let later = Duration::from_secs(60);
        let full = watched(|| seen(50, 20 << 20), later, later);
        let Some(StopReason::ScratchFull { used, .. }) = full else { panic!("{full:?}") };
        assert_eq!(used, ", this backup used 20.0 MiB");
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
