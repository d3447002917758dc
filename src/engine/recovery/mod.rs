//! Undoing what a run owns: by the run that failed, by its guard when it died, by the next run.
//!
//! Must not live here: what a run owns and where it says so (`claims`), what it does when all goes well (`run`).

pub mod abandoned;
pub(crate) mod backup_job;
pub(crate) mod checkpoint;
pub(crate) mod domain;
mod files;
pub mod guard;
pub mod recovered;
pub mod undo;
