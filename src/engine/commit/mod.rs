//! What a restore point has beside its streams, the archive of the chain before, repairs of a chain.
//!
//! Must not live here: how the files of a point are written and get their names (`vmstream::new_point`), what is in the streams
//! (`copy`), undoing (`recovery`).

pub(crate) mod archive;
mod error;
pub(crate) mod point;
pub(crate) mod repair;

pub use self::error::CommitError;
