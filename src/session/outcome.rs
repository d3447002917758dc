//! How the backup of one VM ended, as its run knows it.

use std::time::Duration;

use super::destination::Destination;
use super::layout::LayoutError;
use crate::engine::{BackupError, Report};
use crate::retention;
use vmconfig::value::RotationPolicy;
use vmplan::rotation::ChosenBy;

/// How a domain's backup ended.
#[derive(Debug)]
pub enum VmResult {
    /// Well. Nothing was copied when it was skipped.
    Done(Box<Report>),
    /// Not.
    Failed(BackupError),
    /// It cannot have a folder.
    NoFolder(LayoutError),
    /// Its policy is `never`, because of this.
    Excluded(ChosenBy),
    /// Not begun: the run was asked to stop.
    NotBegun,
}

/// One domain of a run.
#[derive(Debug)]
pub struct VmOutcome {
    /// Its name.
    pub domain: String,
    /// Its rotation policy.
    pub policy: RotationPolicy,
    /// Where its backups go; `None` when it has no folder.
    pub destination: Option<Destination>,
    /// How it ended.
    pub result: VmResult,
    /// How long it took.
    pub took: Duration,
    /// How many tries there were.
    pub tries: u32,
    /// What became of older periods; `None` when nothing was backed up.
    pub retention: Option<retention::Report>,
}
