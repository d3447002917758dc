//! From the words of a person to a restore point: the backup path, a VM in it, its sets, one set, one point.
//!
//! Lives here: reading. Needs no database, no configuration and no libvirt, and works for whoever may read the files.
//! Must not live here: what is done with the point, what is printed.

mod chosen;
mod definition;
mod error;
mod point;
mod sets;
mod vm;

pub use chosen::{Chosen, choose, newest_set};
pub use definition::Definition;
pub use error::ResolveError;
pub use point::PointWish;
pub use sets::{FoundSet, Sets};
pub use vm::{VmName, known_vms, vm_sets};
