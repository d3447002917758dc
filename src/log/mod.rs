//! The logs: one file for all sessions, one for each backup of a VM, and standard error.
//!
//! Lives here: how a line looks in each place, where it goes, and how old logs end. A log that cannot be written never
//! stops a backup: it is said once, on standard error.
//! Must not live here: what is worth a line (whoever does the work), the tables at the end of a run (`cli`).
//!
//! Events are `tracing` events. Of their fields these have a meaning here: `vm` and `disk` stand before the message, and the
//! line also goes to that VM's log; `file_only` keeps it from standard error.

mod age;
mod file;
mod layer;
mod line;
mod stderr;

pub use age::{begin_anew_when_old, remove_old};
pub use layer::{Log, LogSetup};
pub use line::HEADER_WIDTH;
pub use stderr::{Place, Printer};
