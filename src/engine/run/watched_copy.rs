//! Copies the disks of a backup job while a thread beside it watches the job.
//!
//! It watches the scratch directory and beats for the guard; when it stops the copy, or somebody else does, it ends the
//! job at once. It does not wait for the copy, which may be stuck in a write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::claims::beats::Beats;
use crate::engine::claims::claimed::Claims;
use crate::engine::copy::{self, CopiedDisk, CopyError, DiskTask};
use crate::engine::recovery::backup_job::end_job;
use crate::engine::run::request::Backup;
use crate::engine::snapshot::scratch;

/// How long the stages of a copy that failed may take to stop, before the job is ended under them.
const FAILURE_GRACE: Duration = Duration::from_secs(2);
const GRACE_PAUSE: Duration = Duration::from_millis(50);

/// Copies all disks. `peak_bytes` becomes what the scratch files held at most; `cancel` is stopped when they cannot be had
/// any more.
pub(super) fn copy(
    backup: &Backup<'_>,
    tasks: &[DiskTask],
    claims: &Claims<'_>,
    peak_bytes: &AtomicU64,
    cancel: &Cancel,
) -> Result<Vec<CopiedDisk>, CopyError> {
    let Backup { engine, vm, watch, .. } = backup;
    let settings = &engine.settings;
    let finished = AtomicBool::new(false);
    let is_over = || finished.load(Ordering::Acquire);
    thread::scope(|scope| {
        let beats = claims.beats();
        let watcher = scope.spawn(move || {
            // Also from here, at each look: what holds up the watch holds up the beats.
            let is_over_yet = || {
                beats.iter().for_each(Beats::beat);
                is_over()
            };
            let (dir, files) = (&settings.scratch_dir, &claims.journal().scratch);
            scratch::watch(dir, files, settings.scratch_reserve, peak_bytes, cancel, &is_over_yet);
            // Who failed by itself is through in a moment, and finds the job as it was then; not who is stuck in a write.
            let failed_since = Instant::now();
            while cancel.stopped() == Some(StopReason::OtherFailure)
                && !is_over()
                && failed_since.elapsed() < FAILURE_GRACE
            {
                thread::sleep(GRACE_PAUSE);
            }
            if cancel.stopped().is_some() && !is_over() {
                // At once: until the readers have noticed and stopped, the guest could fill what is left.
                let _ = end_job(&vm.domain, claims.journal());
            }
        });
        let _finish = Finish(&finished, watcher.thread());
        copy::copy_all(tasks, &engine.shared, *watch, cancel)
    })
}

/// Says that the copying is over, also when it panics: the watch beside it must not be waited for for ever.
struct Finish<'a>(&'a AtomicBool, &'a thread::Thread);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}
