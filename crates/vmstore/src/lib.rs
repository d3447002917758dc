//! A `BACKUP_PATH`: the tree of backups below it, and what is in that tree besides backup sets.
//!
//! Begin with [`Store::open`]. Lives here: where things are (`layout`, `state_dir`), the way through the folders (`inventory`), what is there under a name (`presence`), who works in it (`lock`), whose
//! it is (`root`, `host_dir`, `file_system`, `belongings`), who may read and write (`ownership`, `private`, `group`), copies of
//! the state folder (`snapshot`), removing (`remove`).
//! Must not live here: what is in a backup set (`vmstream`), libvirt, the database, decisions.
#![forbid(unsafe_code)]

mod belongings;
mod file_system;
mod group;
mod host_dir;
pub mod inventory;
pub mod layout;
mod lock;
mod ownership;
mod private;
pub mod remove;
mod removed;
mod root;
pub mod snapshot;
mod state_dir;
mod store;
mod sweep;
mod tripped;

pub use belongings::Belongings;
pub use file_system::Place;
pub use group::{known_owner, owner_on_host};
pub use host_dir::HostDir;
pub use inventory::{SetDir, Unlisted};
pub use layout::{folder_name, portable_name};
pub use lock::{LockError, SessionLock, VmLock};
pub use ownership::{Order, Ownership};
pub use private::close_below;
pub use removed::{Mark, RemovedCheckpoints};
pub use root::{Root, RootError, RootFile, Standing};
pub use state_dir::StateDir;
pub use store::{Store, VmDir};
pub use sweep::Swept;
pub use tripped::{TrippedDisk, TrippedDisks};
pub use vmstream::{durable, presence};
