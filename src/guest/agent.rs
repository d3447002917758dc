//! A typed client for the QEMU guest agent, over libvirt. Every call has a limit; every answer is untrusted.
//!
//! Source: QEMU `qga/qapi-schema.json`.

use std::time::Duration;

use serde_json::Value;

use crate::libvirt::{Domain, ErrorKind, LibvirtError};

/// An agent that is alive answers a ping at once.
const PING_LIMIT: Duration = Duration::from_secs(3);

/// Thawing runs no hooks of the guest but its own thaw scripts.
const THAW_LIMIT: Duration = Duration::from_secs(5);

/// Why an agent call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No answer in time, or no agent.
    #[error("the guest agent did not answer {command} within {} s", limit.as_secs())]
    Silent {
        /// The command.
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The agent, or libvirt, refused.
    #[error("the guest agent refused {command}: {source}")]
    Refused {
        /// The command.
        command: &'static str,
        /// In libvirt's words.
        source: LibvirtError,
    },
    /// The answer is not what the schema says.
    #[error("the guest agent answered {command} with something that is not its schema's answer")]
    Nonsense {
        /// The command.
        command: &'static str,
    },
}

/// Whether the guest's file systems are frozen, in the agent's own view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeStatus {
    /// Writes go on.
    Thawed,
    /// At least one file system is frozen.
    Frozen,
}

/// The agent of one domain.
pub struct Agent<'a> {
    domain: &'a Domain,
}

impl<'a> Agent<'a> {
    /// The agent of this domain, which may or may not be there.
    pub fn of(domain: &'a Domain) -> Self {
        Self { domain }
    }

    /// True when an agent answers.
    pub fn answers(&self) -> bool {
        self.call("guest-ping", PING_LIMIT).is_ok()
    }

    /// Freezes all file systems and returns their number.
    ///
    /// On time-out the freeze may still happen later: thaw, and ask for the status.
    pub fn freeze(&self, limit: Duration) -> Result<u64, AgentError> {
        let command = "guest-fsfreeze-freeze";
        self.call(command, limit)?.as_u64().ok_or(AgentError::Nonsense { command })
    }

    /// Thaws all file systems. Harmless when nothing is frozen.
    pub fn thaw(&self) -> Result<(), AgentError> {
        self.call("guest-fsfreeze-thaw", THAW_LIMIT).map(drop)
    }

    /// Asks whether file systems are frozen.
    pub fn freeze_status(&self) -> Result<FreezeStatus, AgentError> {
        let command = "guest-fsfreeze-status";
        match self.call(command, PING_LIMIT)?.as_str() {
            Some("thawed") => Ok(FreezeStatus::Thawed),
            Some("frozen") => Ok(FreezeStatus::Frozen),
            _ => Err(AgentError::Nonsense { command }),
        }
    }

    fn call(&self, command: &'static str, limit: Duration) -> Result<Value, AgentError> {
        let request = serde_json::json!({ "execute": command }).to_string();
        let seconds = i32::try_from(limit.as_secs().max(1)).unwrap_or(i32::MAX);
        let reply = self.domain.agent_command(&request, seconds).map_err(|source| match source.kind {
            ErrorKind::AgentSilent | ErrorKind::Busy => AgentError::Silent { command, limit },
            _ => AgentError::Refused { command, source },
        })?;
        read_reply(command, &reply)
    }
}

/// What an agent's reply to `command` returns.
///
/// # Errors
/// [`AgentError::Nonsense`] when it is no JSON object with `return`.
pub fn read_reply(command: &'static str, reply: &str) -> Result<Value, AgentError> {
    let mut reply: Value = serde_json::from_str(reply).map_err(|_| AgentError::Nonsense { command })?;
    reply.get_mut("return").map(Value::take).ok_or(AgentError::Nonsense { command })
}
