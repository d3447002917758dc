//! A guest whose agent answers: asked once at the start of a run, and passed on to all that want something of it.

use super::{Agent, AgentError};
use crate::libvirt::Domain;
use vmreport::{FileSystem, GuestOs, OsInfo};

/// What a guest said of itself.
pub struct Guest<'a> {
    pub agent: Agent<'a>,
    /// What it runs. `None` when its agent does not know the question.
    pub os: Option<OsInfo>,
    /// What is mounted in it; empty when its agent does not know the question.
    pub file_systems: Vec<FileSystem>,
}

impl<'a> Guest<'a> {
    /// Asks the guest of a running domain. Takes 23 s at most.
    ///
    /// # Errors
    /// When the agent does not answer one of the questions at all: it hangs, and is better not relied on. One that
    /// refuses a question, or answers nonsense, is only not known as well.
    pub fn ask(domain: &'a Domain, stop: &dyn Fn() -> bool) -> Result<Self, AgentError> {
        let agent = Agent::of(domain);
        agent.ping()?;
        let os = known(agent.os_info(stop))?;
        let file_systems = known(agent.file_systems(stop))?.unwrap_or_default();
        Ok(Self { agent, os, file_systems })
    }

    /// True when it says that it runs Windows.
    pub fn is_windows(&self) -> bool {
        self.os.as_ref().is_some_and(|os| os.os == GuestOs::Windows)
    }
}

fn known<T>(answer: Result<T, AgentError>) -> Result<Option<T>, AgentError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error @ (AgentError::Silent { .. } | AgentError::Stopped { .. })) => Err(error),
        Err(_) => Ok(None),
    }
}
