//! The only way in which this program removes something below a backup path, or opens a folder there for that: nothing can lead out
//! of it.
//!
//! No link is followed and no mount is crossed on the way. One exception: a VM's folder itself may be where a file system is
//! mounted, as the backup path may; what is removed below it stays in that file system.
//! Must not live here: what is to go (`retention`, the engine's undoing).

mod error;
mod folder;
mod reach;
mod survey;

pub use error::FolderError;
pub use folder::{Entry, Folder};
pub use reach::{reach, reach_archives};
pub use survey::SeenFiles;
