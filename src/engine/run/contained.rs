//! Runs the backup of one VM so that a panic in it fails that backup, and not the whole run.

use crate::engine::BackupError;

/// Runs a backup so that a panic in it becomes an error, and everything is undone as after any other.
pub(super) fn contained<T, E: From<BackupError>>(run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(BackupError::Panicked { message }.into())
    })
}
