//! What a run would do, as a value: for each VM its policy, its period, and the decision with its reason.

use super::layout::LayoutError;
use crate::engine::{BackupError, Preview};
use crate::retention;
use vmconfig::value::RotationPolicy;
use vmplan::rotation::ChosenBy;
use vmreport::Destination;

/// What a run would do to one VM.
#[derive(Debug)]
pub struct VmPlan {
    pub domain: String,
    pub policy: RotationPolicy,
    /// Where that comes from.
    pub chosen_by: ChosenBy,
    /// What follows.
    pub planned: PlannedVm,
}

/// What follows from the facts about one VM.
#[derive(Debug)]
pub enum PlannedVm {
    /// Nothing: its policy is `never`.
    Excluded,
    Backup {
        /// Where it goes.
        destination: Destination,
        /// The decision, its reason, and the repairs before it.
        preview: Box<Preview>,
        /// What becomes of older periods once it is done; `None` when nothing is backed up.
        retention: Option<retention::Plan>,
    },
    /// It cannot have a folder.
    NoFolder(LayoutError),
    /// The facts could not be had.
    Unknown(BackupError),
}
