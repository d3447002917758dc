//! What runs inside the guest: the agent. Must not live here: when to freeze (`engine`).

mod agent;

pub use agent::{Agent, AgentError, FreezeStatus, read_reply};
