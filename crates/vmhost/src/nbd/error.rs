//! What can go wrong on an NBD connection.

use std::fmt;
use std::time::Duration;

use super::Export;

/// What libnbd itself said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Cause {
    /// 0 when libnbd gave none.
    pub errno: i32,
    /// In libnbd's words; begins with the name of its function.
    pub message: String,
}

/// What a time limit was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The connection and its negotiation.
    Handshake,
    /// Any one of the reads in flight.
    Reads {
        /// How many there were.
        in_flight: usize,
    },
    /// The answer to a block status request.
    BlockStatus {
        /// Where it began, in bytes.
        offset: u64,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake => f.write_str("the handshake (does it live, are all its connections taken?)"),
            Self::Reads { in_flight } => write!(f, "any of {in_flight} reads"),
            Self::BlockStatus { offset } => write!(f, "block status at {offset}"),
        }
    }
}

/// Why a block status reply cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFlaw {
    /// The context got no answer.
    Unanswered,
    /// The context got more than one answer.
    Twice,
    /// No extent in it.
    Empty,
    /// An extent of zero bytes in it: no progress.
    ZeroLength,
    /// A length without flags at the end.
    Torn,
}

impl fmt::Display for ReplyFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unanswered => "has no answer",
            Self::Twice => "is answered twice",
            Self::Empty => "has no extent",
            Self::ZeroLength => "has an extent of zero bytes",
            Self::Torn => "ends inside an extent",
        })
    }
}

/// A connection could not be made or used. Each variant names the export.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NbdError {
    /// A name that C strings cannot hold.
    #[error("NBD export {export}: the {what} holds a NUL byte")]
    Nul {
        export: Export,
        /// Socket path, export name or meta context.
        what: &'static str,
    },
    /// No handle, no server, no such export, or a server that speaks otherwise.
    #[error("Cannot open NBD export {export}")]
    Open { export: Export, source: Cause },
    /// Meta contexts were asked of a server that cannot have any.
    #[error("NBD export {export}: the server has no structured replies, so it cannot tell extents")]
    NoStructuredReplies { export: Export },
    /// A bitmap that was not exported, or a misspelt name.
    #[error("NBD export {export} does not offer the meta context {context}")]
    NoContext {
        export: Export,
        /// The first one missing.
        context: String,
    },
    /// The server is silent. The connection may be used on, unless it was the handshake.
    #[error("NBD export {export}: no answer within {} s to {waiting}", limit.as_secs_f64())]
    Timeout {
        export: Export,
        waiting: Waiting,
        /// The limit that passed.
        limit: Duration,
    },
    /// Nothing was sent.
    #[error("NBD export {export}: a read of {len} bytes at {offset} is not within 1 to {max} bytes")]
    ReadSize {
        export: Export,
        /// In bytes.
        offset: u64,
        /// In bytes.
        len: usize,
        /// What the server takes at most.
        max: u32,
    },
    /// Refused, failed in the server, or the connection ended before the reply.
    #[error("NBD export {export}: cannot read {len} bytes at {offset}")]
    Read {
        export: Export,
        /// In bytes.
        offset: u64,
        /// In bytes.
        len: usize,
        source: Cause,
    },
    /// Refused, failed in the server, or the connection ended before the reply.
    #[error("NBD export {export}: cannot get block status at {offset}")]
    BlockStatus {
        export: Export,
        /// In bytes.
        offset: u64,
        source: Cause,
    },
    /// The server breaks the protocol.
    #[error("NBD export {export}: block status at {offset}: the context {context} {flaw}")]
    BadStatus {
        export: Export,
        /// In bytes.
        offset: u64,
        /// The first one with a flaw.
        context: String,
        flaw: ReplyFlaw,
    },
    /// The server or the connection ended.
    #[error("NBD export {export}: the connection is lost")]
    Lost { export: Export, source: Cause },
}

impl NbdError {
    /// Whether the server was merely silent.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// Whether the server answered that it cannot do what was asked, for example because its image cannot be read. The
    /// connection goes on.
    ///
    /// Source: NBD protocol, "Error values". Not among them here: ESHUTDOWN, with which a server says that it ends; a
    /// connection that ends has ENOTCONN.
    pub fn is_answer(&self) -> bool {
        use rustix::io::Errno;
        let answers = [
            Errno::PERM,
            Errno::IO,
            Errno::NOMEM,
            Errno::INVAL,
            Errno::NOSPC,
            Errno::OVERFLOW,
            Errno::OPNOTSUPP,
        ];
        let is_request = matches!(self, Self::Read { .. } | Self::BlockStatus { .. });
        is_request && self.errno().is_some_and(|errno| answers.iter().any(|one| one.raw_os_error() == errno))
    }

    /// What libnbd gave, if it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { source, .. }
            | Self::Read { source, .. }
            | Self::BlockStatus { source, .. }
            | Self::Lost { source, .. } => (source.errno != 0).then_some(source.errno),
            _ => None,
        }
    }
}
