//! Why a program did not run to its end.

use std::io;

/// Whether whoever waits was asked to stop.
pub type Stopped<'a> = &'a dyn Fn() -> bool;

/// Nobody asks for a stop: what is undone is undone to its end, or to the limit.
pub const NEVER: Stopped<'static> = &|| false;

/// A program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Not installed, or not to be run.
    #[error("cannot be started: {source}")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// It took too long. It was killed, and left behind if that did not end it.
    #[error("did not end within {seconds} s and was given up: the storage of its files may hang")]
    TimedOut { seconds: u64 },
    /// Whoever waited was asked to stop.
    #[error("was ended because a stop was asked for")]
    Stopped,
    /// It printed more than any sound answer has.
    #[error("printed more than {bytes} bytes and was ended")]
    TooMuch { bytes: usize },
}
