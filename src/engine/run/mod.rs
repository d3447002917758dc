//! One backup from begin to end: decided, and taken from a domain that runs, one that is started for it, or images that no
//! QEMU has open.
//!
//! Must not live here: how any one step is done (the rooms below).

mod backup;
mod broken_job;
mod checkpoints;
mod closed;
mod commit;
mod contained;
mod definition;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod facts;
mod guest;
mod prepare;
pub(crate) mod preview;
mod request;
mod running;
mod source;
mod started;
mod take;
mod tasks;
mod undo;
mod undo_earlier;
mod watched_copy;
