//! The folder `_state` of a backup path: where its files are, who works in it, and who owns what.
//!
//! Must not live here: what the files say (`log`, `engine::journal`), decisions.

mod dir;
mod lock;
mod ownership;
mod removed;

pub use dir::StateDir;
pub use lock::{LockError, SessionLock, VmLock};
pub use ownership::{Ownership, Swept};
pub use removed::{Mark, RemovedCheckpoints};
