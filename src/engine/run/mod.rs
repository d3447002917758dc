//! The kinds of backup from begin to end: of a domain that runs, one that is shut off, one that is started for it, one that
//! shuts down during it.
//!
//! Must not live here: how any one step is done (the rooms below).

pub(crate) mod live;
pub(crate) mod offline;
pub(crate) mod shut_down;
pub(crate) mod started;
