//! What runs inside the guest: the agent. Must not live here: when to freeze (`engine`).

mod agent;
mod answering;
mod bitlocker;
mod discard;
mod reply;
mod trim;

pub use agent::{Agent, AgentError, FreezeStatus, read_reply};
pub use answering::Guest;
pub use bitlocker::recovery_keys;
pub use discard::{DiscardDisk, discard_disks, granularity_xml};
pub use trim::{TrimSettings, trim};
