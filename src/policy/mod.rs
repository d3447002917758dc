//! Pure decisions: facts in, a plan with its reasons out. No libvirt, no files, no clock.

pub mod glob;
mod level;
#[cfg(test)]
mod level_tests;
mod plan;
pub mod rotation;
mod seen;

pub use level::plan_backup;
pub use plan::{Decision, Note, Plan, Refusal, Repair, UnseenChange, Why};
pub use seen::{Broken, ChainSeen, CheckpointSeen, DiskSeen, ImageSeen, OfflineSeen, Origin, Rules, Seen};
