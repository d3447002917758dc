//! What libvirt answered, sorted by what a caller can do about it.

use virt_sys as sys;

use super::said::Said;

/// The kinds of error that callers act on. Everything else is `Other` with libvirt's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The domain is not known to the daemon.
    NoDomain,
    /// The checkpoint is not known to the daemon.
    NoCheckpoint,
    /// The domain has no backup job.
    NoBackup,
    /// The storage pool has no such volume.
    NoVolume,
    /// A checkpoint's bitmap is missing or broken: only a full backup helps.
    CheckpointInconsistent,
    /// The domain is in the wrong state for the call.
    InvalidState,
    /// Another job holds the domain, and did so until libvirt gave up waiting (30 s).
    Busy,
    /// The guest agent is not connected, does not answer, or answered too late.
    AgentSilent,
    /// The guest agent answered with an error.
    AgentRefused,
    /// The connection to the daemon is gone (stopped, restarted, or hung).
    ConnectionLost,
    /// The daemon, or the emulator, does not know the call.
    Unsupported,
    /// Any other, by `virErrorNumber`.
    Other(u32),
}

impl ErrorKind {
    /// Source: `libvirt/virterror.h`.
    pub(super) fn from_code(code: u32) -> Self {
        match code {
            sys::VIR_ERR_NO_DOMAIN => Self::NoDomain,
            sys::VIR_ERR_NO_DOMAIN_CHECKPOINT => Self::NoCheckpoint,
            sys::VIR_ERR_NO_DOMAIN_BACKUP => Self::NoBackup,
            sys::VIR_ERR_NO_STORAGE_VOL => Self::NoVolume,
            sys::VIR_ERR_CHECKPOINT_INCONSISTENT => Self::CheckpointInconsistent,
            sys::VIR_ERR_OPERATION_INVALID => Self::InvalidState,
            sys::VIR_ERR_OPERATION_TIMEOUT => Self::Busy,
            sys::VIR_ERR_AGENT_UNRESPONSIVE
            | sys::VIR_ERR_AGENT_UNSYNCED
            | sys::VIR_ERR_AGENT_COMMAND_TIMEOUT => Self::AgentSilent,
            sys::VIR_ERR_AGENT_COMMAND_FAILED => Self::AgentRefused,
            sys::VIR_ERR_NO_SUPPORT
            | sys::VIR_ERR_OPERATION_UNSUPPORTED
            | sys::VIR_ERR_CONFIG_UNSUPPORTED
            | sys::VIR_ERR_ARGUMENT_UNSUPPORTED => Self::Unsupported,
            other => Self::Other(other),
        }
    }
}

/// A failed libvirt call: what was being done, and what the daemon said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("libvirt cannot {doing}: {message}")]
pub struct LibvirtError {
    /// What was asked, as a phrase that follows "cannot".
    pub doing: String,
    /// What it means for the caller.
    pub kind: ErrorKind,
    /// libvirt's own words.
    pub message: String,
}

impl LibvirtError {
    pub(super) fn new(doing: impl Into<String>, error: &virt::error::Error) -> Self {
        let kind = ErrorKind::from_code(error.code().to_raw());
        Self { doing: doing.into(), kind, message: error.message().trim_end().to_owned() }
    }

    /// What libvirt's words say of a bitmap: its number does not.
    pub fn said(&self) -> Said {
        Said::of(&self.message)
    }

    /// One of a checkpoint's bitmaps is missing or broken, so libvirt deletes none of them.
    pub fn is_bitmap_missing(&self) -> bool {
        self.kind == ErrorKind::CheckpointInconsistent || self.said() == Said::BitmapNotFound
    }

    /// True when asking again after a reconnect may help.
    pub fn is_connection_lost(&self) -> bool {
        self.kind == ErrorKind::ConnectionLost
    }

    /// The call was accepted, and had no effect in time.
    pub fn still_there(doing: &str, domain: &str) -> Self {
        let doing = format!("{doing} of domain {domain}");
        Self {
            doing,
            kind: ErrorKind::Busy,
            message: "it was accepted, but did not happen in time".to_owned(),
        }
    }
}
