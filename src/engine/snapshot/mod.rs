//! The moment of a restore point: the guest held still, scratch files and their keys, the bitmaps that mark the chain, and
//! what a point holds besides disks.
//!
//! Must not live here: what is copied afterwards (`copy`), how files become a point (`commit`).

pub(crate) mod chain_marker;
pub(crate) mod encryption;
mod error;
pub(crate) mod identity;
pub(crate) mod quiesce;
pub mod scratch;
pub(crate) mod thaw;

pub use self::error::SnapshotError;
