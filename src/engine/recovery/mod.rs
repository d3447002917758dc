//! What a run owns and how it is undone: the journal, the claims of a run that lives, the guard, the undoing.
//!
//! Must not live here: what a run does when all goes well (`run`).

pub mod abandoned;
pub(crate) mod beneath;
pub mod guard;
pub mod journal;
pub(crate) mod journal_check;
pub(crate) mod owned;
pub(crate) mod presence;
pub mod recover;
