//! What a run owns, and says so before it owns it: in the journal, to its guard, and on the host.
//!
//! Must not live here: undoing any of it, and the guard's own process (`recovery`).

pub(crate) mod beats;
pub(crate) mod claimed;
mod error;
pub mod guard;
pub mod journal;
mod journal_check;
pub(in crate::engine) mod journal_lines;
pub(crate) mod left_by_job;
pub(crate) mod order;
pub(in crate::engine) mod other_job;
pub(crate) mod presence;

pub use self::error::ClaimError;
