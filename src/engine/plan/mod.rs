//! What a run will do to a domain, as values: each disk's part, the job, the point and its files by name, the room that it
//! needs.
//!
//! Must not live here: looking (`look`), doing it (`snapshot`, `copy`, `run`).

pub mod disk_plan;
mod error;
pub(crate) mod job;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod point_files;
pub(crate) mod point_identity;
pub(crate) mod role;
pub(crate) mod run_files;
pub mod space;

pub use self::error::NoDisks;
