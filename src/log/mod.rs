//! The logs: one file for all sessions, one for each backup of a VM, and standard error.
//!
//! Lives here: how a line looks in each place, where it goes, and how old logs end. A log that cannot be written never
//! stops a backup: it is said once, on standard error. One that hangs holds up nobody: threads of their own write, and
//! what does not fit into their queues is dropped and counted.
//! Must not live here: what is worth a line (whoever does the work), the tables at the end of a run (`cli`).
//!
//! Events are `tracing` events. Of their fields these have a meaning here: `vm` and `disk` stand before the message, and the
//! line also goes to that VM's log; `file_only` keeps it from standard error.

mod age;
mod file;
mod layer;
mod line;
mod queue;
mod stderr;

pub use age::{begin_anew_when_old, remove_old};
pub use layer::{Log, LogSetup, flush, warnings};
pub use line::HEADER_WIDTH;
pub use stderr::{Place, Printer};
