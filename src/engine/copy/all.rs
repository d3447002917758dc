//! Copies all disks of a domain at once.

use std::thread;

use super::{Copied, CopyError, DiskTask, Shared, SidecarPlan, Stages, copy_disk};
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::joined;
use crate::engine::watch::Watch;

/// A disk whose file is complete under its partial name.
#[derive(Debug)]
pub struct CopiedDisk {
    /// Disk target.
    pub target: String,
    /// Name of the file once it is published.
    pub file: String,
    /// Its sidecar.
    pub sidecar: SidecarPlan,
    /// The file.
    pub copied: Copied,
    /// How busy each stage of the copy was.
    pub stages: Stages,
}

/// Copies all disks. One disk lost is the point lost: the first failure stops the others and is the one reported.
pub fn copy_all(
    tasks: &[DiskTask],
    shared: &Shared,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<Vec<CopiedDisk>, CopyError> {
    let copy_one = |task: &DiskTask| {
        let copied = copy_disk(task, shared, watch, cancel);
        watch.disk_end(&task.target);
        if copied.is_err() {
            cancel.stop(StopReason::OtherFailure);
        }
        let (target, file, sidecar) = (task.target.clone(), task.file.clone(), task.sidecar.clone());
        let (copied, stages) = copied?;
        Ok(CopiedDisk { target, file, sidecar, copied, stages })
    };
    let results: Vec<Result<CopiedDisk, CopyError>> = thread::scope(|scope| {
        let threads: Vec<_> = tasks.iter().map(|task| scope.spawn(move || copy_one(task))).collect();
        threads.into_iter().map(joined).collect()
    });
    let mut copied = Vec::new();
    let mut failed: Option<CopyError> = None;
    let is_echo = |e: &CopyError| matches!(e, CopyError::Stopped(StopReason::OtherFailure));
    for result in results {
        match result {
            Ok(disk) => copied.push(disk),
            Err(error) if failed.as_ref().is_none_or(is_echo) => failed = Some(error),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(copied), Err)
}
