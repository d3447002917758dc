//! One domain's backup, tried again where that may help.

use std::thread;
use std::time::{Duration, Instant};

use super::settings::Retries;
use crate::engine::FailedBackup;
use crate::engine::cancel::Cancel;
use vmreport::NextStep;

/// How often a wait looks whether the run is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How it ended, and after how many tries.
pub(super) type Tried<T> = (Result<T, FailedBackup>, u32);

/// Backs up until it is well, cannot be, or was tried often enough. `backup` is told the error that only a full cures,
/// once it is time for one.
pub(super) fn until_well<T>(
    vm: &str,
    retries: Retries,
    cancel: &Cancel,
    mut backup: impl FnMut(Option<String>) -> Result<T, FailedBackup>,
) -> Tried<T> {
    let (mut tries, mut curable, mut full_because) = (0, 0, None);
    loop {
        tries += 1;
        let failed = match backup(full_because.clone()) {
            Ok(done) => return (Ok(done), tries),
            Err(failed) => failed,
        };
        let error = &failed.error;
        let next = error.next_step();
        if tries > retries.max || next == NextStep::GiveUp || cancel.stopped().is_some() {
            return (Err(failed), tries);
        }
        if next == NextStep::TryFull {
            curable += 1;
            if retries.full_after.is_some_and(|after| curable >= after) {
                full_because = Some(error.to_string());
            }
        }
        let (all, seconds) = (retries.max + 1, retries.delay.as_secs());
        let how = if full_because.is_some() { ", as a full" } else { "" };
        tracing::warn!(vm, "try {tries} of {all} failed: {error}. Again in {seconds} s{how}");
        if !wait(retries.delay, cancel) {
            return (Err(failed), tries);
        }
    }
}

/// False when the run was asked to stop meanwhile.
fn wait(pause: Duration, cancel: &Cancel) -> bool {
    let until = Instant::now() + pause;
    while cancel.stopped().is_none() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(LOOK_EVERY));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::BackupError;
    use crate::engine::cancel::StopReason;
    use crate::engine::copy::CopyError;
    use vmhost::libvirt::{ErrorKind, LibvirtError};

    const AT_ONCE: Retries = Retries { max: 3, delay: Duration::ZERO, full_after: Some(1) };

    fn broken_bitmap() -> BackupError {
        let (doing, message) = ("begin".to_owned(), "it is gone".to_owned());
        LibvirtError { doing, kind: ErrorKind::CheckpointInconsistent, message }.into()
    }

    fn busy() -> BackupError {
        crate::engine::Changed { domain: "web".into(), what: "x".into() }.into()
    }

    fn full_disk() -> BackupError {
        let source = std::io::ErrorKind::StorageFull.into();
        CopyError::Write { path: "/b/x".into(), source }.into()
    }

    /// What each try was told, when all of them end with the error.
    fn told(retries: Retries, error: fn() -> BackupError) -> Vec<bool> {
        let mut told = vec![];
        let (result, tries) = until_well("web", retries, &Cancel::default(), |full: Option<String>| {
            told.push(full.is_some());
            Err::<(), _>(error().into())
        });
        assert!(result.is_err());
        assert_eq!(tries as usize, told.len());
        told
    }

    #[test]
    fn only_what_a_full_cures_becomes_a_full() {
        let (never, later) =
            (Retries { full_after: None, ..AT_ONCE }, Retries { full_after: Some(2), ..AT_ONCE });
        let once = Retries { max: 0, ..AT_ONCE };
        type Case = (&'static str, Retries, fn() -> BackupError, &'static [bool]);
        let cases: [Case; 6] = [
            ("bitmap", AT_ONCE, broken_bitmap, &[false, true, true, true]),
            ("bitmap, after two", later, broken_bitmap, &[false, false, true, true]),
            ("bitmap, fulls switched off", never, broken_bitmap, &[false; 4]),
            ("busy", AT_ONCE, busy, &[false; 4]),
            ("disk full", AT_ONCE, full_disk, &[false]),
            ("no retries", once, broken_bitmap, &[false]),
        ];
        for (case, retries, error, want) in cases {
            assert_eq!(told(retries, error), want, "{case}");
        }
    }

    #[test]
    fn ends_with_the_first_try_that_is_well() {
        let mut left = 2;
        let (result, tries) = until_well("web", AT_ONCE, &Cancel::default(), |_| {
            left -= 1;
            if left > 0 { Err(busy().into()) } else { Ok("done") }
        });
        assert_eq!((result.ok(), tries), (Some("done"), 2));
    }

    #[test]
    fn a_stop_ends_a_wait_at_once() {
        let hour = Retries { delay: Duration::from_secs(3600), ..AT_ONCE };
        let (cancel, began) = (Cancel::default(), Instant::now());
        thread::scope(|scope| {
            let tried = scope.spawn(|| until_well("web", hour, &cancel, |_| Err::<(), _>(busy().into())));
            thread::sleep(Duration::from_millis(50));
            cancel.stop(StopReason::Signal(15));
            assert_eq!(tried.join().unwrap().1, 1);
        });
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
