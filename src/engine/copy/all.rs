//! Copies all disks of a domain, some at once.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::disk::copy_disk;
use super::error::CopyError;
use super::first_error::FirstError;
use super::limits::DISKS_OF_DOMAIN;
use super::pulse::Pulse;
use super::shared::Shared;
use super::sink::Copied;
use super::task::{DiskTask, SidecarPlan};
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::threads::some_at_once;
use crate::engine::watch::Watch;
use vmreport::Stages;

/// How often to look whether a disk stalls.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A disk whose file is complete under its partial name.
#[derive(Debug)]
pub struct CopiedDisk {
    pub target: String,
    /// Name of the file once it is published.
    pub file: String,
    pub sidecar: SidecarPlan,
    pub copied: Copied,
    /// How busy each stage of the copy was.
    pub stages: Stages,
}

/// Copies all disks, the largest first. One disk lost is the point lost: the first failure stops the others and is the one
/// reported.
pub fn copy_all(
    tasks: &[DiskTask],
    shared: &Shared,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<Vec<CopiedDisk>, CopyError> {
    let first_error = FirstError::new(cancel);
    let pulses: Vec<Pulse> = tasks.iter().map(|_| Pulse::new()).collect();
    let copy_one = |(task, pulse): (&DiskTask, &Pulse)| {
        let _place = first_error.note(shared.disks.take(1, cancel).map_err(CopyError::from))?;
        let copied = copy_disk(task, shared, watch, pulse, &first_error);
        pulse.end();
        watch.disk_end(&task.target);
        let (target, file, sidecar) = (task.target.clone(), task.file.clone(), task.sidecar.clone());
        let (copied, stages) = copied?;
        Some(CopiedDisk { target, file, sidecar, copied, stages })
    };
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|place| Reverse(tasks[*place].sink.disk_size()));
    let finished = AtomicBool::new(false);
    let mut copied: Vec<(usize, Option<CopiedDisk>)> = thread::scope(|scope| {
        // Beside them: a thread that is stuck in a write sees nothing.
        let watcher = scope.spawn(|| {
            while !finished.load(Ordering::Acquire) && cancel.stopped().is_none() {
                let disks = pulses.iter().zip(tasks);
                let stalled =
                    disks.filter_map(|(pulse, task)| pulse.stalled(task, shared.stall_limit)).next();
                first_error.note(stalled.map_or(Ok(()), Err));
                thread::park_timeout(LOOK_EVERY);
            }
        });
        let finish = Finish(&finished, watcher.thread());
        let copied = some_at_once(DISKS_OF_DOMAIN, order, |place| {
            let done =
                if cancel.stopped().is_none() { copy_one((&tasks[place], &pulses[place])) } else { None };
            (place, done)
        });
        drop(finish);
        copied
    });
    copied.sort_by_key(|(place, _)| *place);
    let copied: Vec<_> = copied.into_iter().filter_map(|(_, disk)| disk).collect();
    match first_error.into_error() {
        Some(error) => Err(error),
        None if copied.len() == tasks.len() => Ok(copied),
        None => Err(cancel.stopped().unwrap_or(StopReason::OtherFailure).into()),
    }
}

/// Ends the watcher, also when a copy panics.
struct Finish<'a>(&'a AtomicBool, &'a thread::Thread);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}
