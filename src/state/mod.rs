//! The folder `_state` of a backup path: where its files are, who works in it, who owns what, and its daily copies.
//!
//! Must not live here: what the files say (`log`, `engine::journal`), decisions.

mod belongings;
mod dir;
mod file_system;
mod host_dir;
mod lock;
mod ownership;
mod private;
mod removed;
mod root;
pub mod snapshot;
mod tripped;

pub use belongings::Belongings;
pub use dir::{StateDir, folder_name, portable_name};
pub use file_system::Place;
pub use host_dir::HostDir;
pub use lock::{LockError, SessionLock, VmLock};
pub use ownership::{Order, Ownership, Swept};
pub use private::close_below;
pub use removed::{Mark, RemovedCheckpoints};
pub use root::{Root, RootError, RootFile, Standing};
pub use tripped::{TrippedDisk, TrippedDisks};
