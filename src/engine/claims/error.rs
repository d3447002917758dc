//! Why a run may not own anything.

use super::guard::GuardError;
use super::journal::JournalError;

/// Why a run may not own anything: whoever would have to undo it could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The journal could not be kept.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// No guard, no backup.
    #[error("{0}")]
    Guard(#[from] GuardError),
}
