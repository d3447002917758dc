//! What a run will do to a domain, as values: each disk's part, the job, the room that it needs.
//!
//! Must not live here: looking (`look`), doing it (`snapshot`, `copy`, `run`).

pub mod disk_plan;
mod error;
pub(crate) mod job;
pub mod space;

pub use self::error::NoDisks;
