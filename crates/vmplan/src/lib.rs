//! Pure decisions: facts in, a plan with its reasons out.
//!
//! Lives here: which period a backup goes to and at which level (`rotation`, `level`), which periods are kept
//! ([`retention`]), patterns for names ([`glob`]), the terms that those need.
//! Must not live here: files, a clock, libvirt, settings, texts of programs. Time is an argument.
//! Layer: above `vmstream`, of which it uses the names of points and nothing that reads; below all else.
#![forbid(unsafe_code)]

mod choice;
mod facts;
pub mod glob;
mod level;
#[cfg(test)]
mod level_tests;
mod plan;
pub mod retention;
pub mod rotation;
mod unnoted_copy;

pub use choice::{AutoRecovery, OfflineMode, RotationPolicy};
pub use facts::{
    Broken, ChainFacts, CheckpointFacts, DiskFacts, Facts, ImageFacts, OfflineFacts, Origin, Rules,
};
pub use level::plan_backup;
pub use plan::{Decision, Note, Plan, Refusal, Repair, UnseenChange, Why};
pub use unnoted_copy::{CopiedDisk, DiskSize, Doubt, FileTimes, UnnotedCopy};
