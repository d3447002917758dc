//! From written files to a restore point: their names, their order, the archive of the chain before, repairs of a chain.
//!
//! Must not live here: what is in the streams (`copy`), undoing (`recovery`).

pub(crate) mod archive;
mod error;
pub(crate) mod point;
pub(crate) mod publish;
pub(crate) mod repair;

pub use self::error::CommitError;
