//! The kinds of backup from begin to end: of a domain that runs, one that is shut off, one that is started for it, one that
//! shuts down during it.
//!
//! Must not live here: how any one step is done (the rooms below).

mod backup;
mod contained;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod facts;
pub(crate) mod live;
pub(crate) mod offline;
mod prepare;
pub(crate) mod preview;
mod publish;
pub(crate) mod shut_down;
mod started;
mod undo;
mod undo_earlier;
