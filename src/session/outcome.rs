//! How the backup of one VM ended, as its run knows it: with the errors themselves, before it is told.

use super::layout::LayoutError;
use crate::engine::FailedBackup;
use vmplan::rotation::ChosenBy;
use vmreport::BackupReport;

/// How a domain's backup ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Well. Nothing was copied when it was skipped.
    Done(Box<BackupReport>),
    Failed(FailedBackup),
    /// It cannot have a folder.
    NoFolder(LayoutError),
    /// Its policy is `never`, because of this.
    Excluded(ChosenBy),
    /// Not begun: the run was asked to stop.
    NotBegun,
}
