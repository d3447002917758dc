//! The one way to write restore points: all of one is there, or nothing.
//!
//! ```text
//! create ─► streams ─► small files ─► sidecars, which name them ─► all on disk ─► renamed ─► folders on disk ─► list
//! ```
//! Until it is renamed each file waits under an unfinished name, which no reader takes for a part of a backup. The list of
//! checkpoints names the point, so it comes last; of a copy the definition does.
//!
//! Lives here: a folder for points (`folder`), the files of one as they are written (`writer`) and once all are (`sealed`), folders
//! that only their owner enters (`private`). Must not live here: what is in the files; undoing what a process that was killed
//! has left (`convert` has a folder of its own for that, `vmbackup` a journal).

mod error;
mod folder;
mod private;
mod sealed;
#[cfg(test)]
mod tests;
mod writer;

pub use error::PointError;
pub use folder::{Named, PointFolder, unfinished_name};
pub use private::{Access, Owner};
pub use sealed::{SealedPoint, SealedSidecar};
pub use writer::{OpenSidecar, PointWriter};
