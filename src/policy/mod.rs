//! Pure decisions: what to do for a domain, given what was seen. No clock, no files, no libvirt.

mod level;

pub use level::{
    ChainSeen, CheckpointSeen, Decision, DiskSeen, OfflineSeen, Origin, Plan, Refusal, Seen, Why, plan_backup,
};
