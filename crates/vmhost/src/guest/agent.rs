//! A typed client for the QEMU guest agent, over libvirt. Every call has a limit; every answer is untrusted.
//!
//! Source: QEMU `qga/qapi-schema.json`.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::reply::{self, ExecStatus};
use crate::libvirt::{Domain, ErrorKind, LibvirtError};
use vmreport::{FileSystem, OsInfo, TrimmedPath};

/// An agent that is alive answers a ping at once.
const PING_LIMIT: Duration = Duration::from_secs(3);

/// Thawing runs no hooks of the guest but its own thaw scripts.
const THAW_LIMIT: Duration = Duration::from_secs(5);

/// For questions that the agent answers from what it knows.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// How often a program in the guest is asked whether it has ended.
const EXEC_PAUSE: Duration = Duration::from_millis(200);

/// How often a long call looks whether the run is to stop.
const STOP_PAUSE: Duration = Duration::from_millis(100);

/// Why an agent call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No answer in time, or no agent.
    #[error("the guest agent did not answer {command} within {} s", limit.as_secs())]
    Silent { command: &'static str, limit: Duration },
    /// The agent, or libvirt, refused.
    #[error("the guest agent refused {command}: {source}")]
    Refused { command: &'static str, source: LibvirtError },
    /// The run was told to stop while the agent was waited for.
    #[error("waiting for the guest agent's answer to {command} was given up: the run is to stop")]
    Stopped { command: &'static str },
    /// A program in the guest failed, or printed more than the agent keeps.
    #[error("{program} in the guest ended with {}", .exit_code.map_or("a signal".into(), |code| format!("exit code {code}")))]
    Program {
        program: String,
        /// What it returned.
        exit_code: Option<i64>,
    },
    /// The answer is not what the schema says.
    #[error("the guest agent answered {command} with something that is not its schema's answer")]
    Nonsense { command: &'static str },
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

    /// Whose agent it is.
    pub fn domain(&self) -> &'a Domain {
        self.domain
    }

    /// Fails when no agent answers.
    pub fn ping(&self) -> Result<(), AgentError> {
        self.call("guest-ping", None, PING_LIMIT).map(drop)
    }

    /// Asks what the guest runs. Given up when `stop` says so.
    pub fn os_info(&self, stop: &dyn Fn() -> bool) -> Result<OsInfo, AgentError> {
        self.ask("guest-get-osinfo", stop, reply::os_info)
    }

    /// Asks what is mounted where. Given up when `stop` says so.
    pub fn file_systems(&self, stop: &dyn Fn() -> bool) -> Result<Vec<FileSystem>, AgentError> {
        self.ask("guest-get-fsinfo", stop, reply::file_systems)
    }

    fn ask<T>(
        &self,
        command: &'static str,
        stop: &dyn Fn() -> bool,
        read: fn(&Value) -> Option<T>,
    ) -> Result<T, AgentError> {
        let reply = self.reply_unless(command, None, ASK_LIMIT, stop)?;
        reply::returned(&reply).as_ref().and_then(read).ok_or(AgentError::Nonsense { command })
    }

    /// Freezes the file systems at these mount points, all of them if there are none, and returns their number.
    ///
    /// On time-out the freeze may still happen later: thaw, and ask for the status.
    pub fn freeze(&self, mount_points: &[String], limit: Duration) -> Result<u64, AgentError> {
        let (command, arguments) = match mount_points {
            [] => ("guest-fsfreeze-freeze", None),
            some => ("guest-fsfreeze-freeze-list", Some(json!({ "mountpoints": some }))),
        };
        self.call(command, arguments, limit)?.as_u64().ok_or(AgentError::Nonsense { command })
    }

    /// Thaws all file systems. Harmless when nothing is frozen.
    pub fn thaw(&self) -> Result<(), AgentError> {
        self.call("guest-fsfreeze-thaw", None, THAW_LIMIT).map(drop)
    }

    /// Asks whether file systems are frozen.
    pub fn freeze_status(&self) -> Result<FreezeStatus, AgentError> {
        let command = "guest-fsfreeze-status";
        match self.call(command, None, PING_LIMIT)?.as_str() {
            Some("thawed") => Ok(FreezeStatus::Thawed),
            Some("frozen") => Ok(FreezeStatus::Frozen),
            _ => Err(AgentError::Nonsense { command }),
        }
    }

    /// Has the guest give back the blocks its file systems do not use, in runs of at least `minimum` bytes.
    ///
    /// Given up, but not undone, when `stop` says so: the guest goes on with it.
    pub fn trim(
        &self,
        minimum: Option<u32>,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<TrimmedPath>, AgentError> {
        let command = "guest-fstrim";
        let arguments = minimum.map(|bytes| json!({ "minimum": bytes }));
        let value = reply::returned(&self.reply_unless(command, arguments, limit, stop)?);
        value.as_ref().and_then(reply::trimmed).ok_or(AgentError::Nonsense { command })
    }

    /// Runs a program in the guest and returns what it prints on its standard output, which is overwritten when dropped.
    ///
    /// At the limit the program is left running: the agent cannot end it.
    pub fn run(
        &self,
        program: &str,
        arguments: &[&str],
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let until = Instant::now() + limit;
        let (exec, status) = ("guest-exec", "guest-exec-status");
        let request = json!({ "path": program, "arg": arguments, "capture-output": true });
        let started = self.reply_unless(exec, Some(request), limit.min(ASK_LIMIT), stop)?;
        let pid = reply::returned(&started)
            .as_ref()
            .and_then(reply::pid)
            .ok_or(AgentError::Nonsense { command: exec })?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AgentError::Silent { command: status, limit });
            }
            let said = self.reply_unless(status, Some(json!({ "pid": pid })), left.min(ASK_LIMIT), stop)?;
            match reply::exec_status(&said).ok_or(AgentError::Nonsense { command: status })? {
                ExecStatus::Ended { exit_code: Some(0), output } => return Ok(output),
                ExecStatus::Ended { exit_code, .. } => {
                    return Err(AgentError::Program { program: reply::printable(program), exit_code });
                }
                ExecStatus::Running => thread::sleep(EXEC_PAUSE.min(left)),
            }
        }
    }

    /// The reply to a call that is not waited for any longer once `stop` says so.
    fn reply_unless(
        &self,
        command: &'static str,
        arguments: Option<Value>,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Zeroizing<String>, AgentError> {
        let (answer, answered) = mpsc::channel();
        let domain = self.domain.clone();
        // Cannot be interrupted; it ends at the limit, or with the process.
        let ask = move || drop(answer.send(Agent::of(&domain).reply(command, arguments, limit)));
        if thread::Builder::new().name("agent".into()).spawn(ask).is_err() {
            return Err(AgentError::Silent { command, limit });
        }
        loop {
            match answered.recv_timeout(STOP_PAUSE) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if !stop() => {}
                Err(RecvTimeoutError::Timeout) => return Err(AgentError::Stopped { command }),
                Err(RecvTimeoutError::Disconnected) => return Err(AgentError::Nonsense { command }),
            }
        }
    }

    fn call(
        &self,
        command: &'static str,
        arguments: Option<Value>,
        limit: Duration,
    ) -> Result<Value, AgentError> {
        read_reply(command, &self.reply(command, arguments, limit)?)
    }

    fn reply(
        &self,
        command: &'static str,
        arguments: Option<Value>,
        limit: Duration,
    ) -> Result<Zeroizing<String>, AgentError> {
        let mut request = json!({ "execute": command });
        if let Some(arguments) = arguments {
            request["arguments"] = arguments;
        }
        let seconds = i32::try_from(limit.as_secs().max(1)).unwrap_or(i32::MAX);
        let answer = self.domain.agent_command(&request.to_string(), seconds);
        answer.map(Zeroizing::new).map_err(|source| match source.kind {
            ErrorKind::AgentSilent | ErrorKind::Busy => AgentError::Silent { command, limit },
            _ => AgentError::Refused { command, source },
        })
    }
}

/// What an agent's reply to `command` returns.
///
/// # Errors
/// [`AgentError::Nonsense`] when it is no JSON object with `return`.
pub fn read_reply(command: &'static str, reply: &str) -> Result<Value, AgentError> {
    reply::returned(reply).ok_or(AgentError::Nonsense { command })
}
