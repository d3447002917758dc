//! The first failure of a copy. Later ones are its echo.

use std::sync::{Mutex, PoisonError};

use super::error::CopyError;
use crate::engine::cancel::{Cancel, StopReason};

/// The first failure among everything that copies the disks of a domain, in the order of time.
pub(super) struct FirstError {
    slot: Mutex<Option<CopyError>>,
    cancel: Cancel,
}

impl FirstError {
    /// `cancel` is stopped with the first error.
    pub(super) fn new(cancel: &Cancel) -> Self {
        Self { slot: Mutex::default(), cancel: cancel.clone() }
    }

    /// What stops with it.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Keeps the first error and stops everything else that works on these disks. After a stop that was asked for, that is
    /// the first: the job is ended then, and reads break.
    pub(super) fn note<T>(&self, result: Result<T, CopyError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => match self.cancel.stopped() {
                None | Some(StopReason::OtherFailure) => error,
                Some(reason) => reason.into(),
            },
        };
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(is_echo) {
            *slot = Some(error);
        }
        drop(slot);
        self.cancel.stop(StopReason::OtherFailure);
        None
    }

    /// The error, if there was one.
    pub(super) fn into_error(self) -> Option<CopyError> {
        self.slot.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_echo(error: &CopyError) -> bool {
    matches!(error, CopyError::Stopped(StopReason::OtherFailure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_stays_unless_it_is_an_echo() {
        let cancel = Cancel::default();
        let first = FirstError::new(&cancel);
        let stalled = |seconds| Err::<(), _>(CopyError::Stalled { target: "vda".into(), seconds });
        assert_eq!(first.note(Ok(1)), Some(1));
        assert_eq!(cancel.stopped(), None);
        first.note(Err::<(), _>(CopyError::Stopped(StopReason::OtherFailure)));
        assert_eq!(cancel.stopped(), Some(StopReason::OtherFailure));
        first.note(stalled(1));
        first.note(stalled(2));
        cancel.stop(StopReason::Signal(15));
        first.note(stalled(3));
        assert!(matches!(first.into_error(), Some(CopyError::Stalled { seconds: 1, .. })));
    }

    #[test]
    fn what_fails_after_a_stop_that_was_asked_for_is_its_echo() {
        let run = Cancel::default();
        let first = FirstError::new(&run.child());
        run.stop(StopReason::Signal(15));
        first.note(Err::<(), _>(CopyError::Stalled { target: "vda".into(), seconds: 1 }));
        assert!(matches!(first.into_error(), Some(CopyError::Stopped(StopReason::Signal(15)))));
    }
}
