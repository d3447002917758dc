//! What is asked about an image, and the answer.

use std::fmt;

/// Whether somebody other than this process has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InUse {
    /// Nobody has.
    Free,
    /// Somebody has: who, as it stands in a sentence.
    By(String),
    /// Nobody who could be seen has, and there may be others: why they cannot be seen.
    Unknown(String),
    /// The same, and root would see them: why this user does not.
    Hidden(String),
}

/// What makes somebody count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// May write.
    Writers,
    /// Has it open, and relies on what it holds.
    Everybody,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => write!(f, "not in use"),
            Self::By(who) => write!(f, "in use by {who}"),
            Self::Unknown(why) => write!(f, "perhaps in use: {why}"),
            Self::Hidden(why) => write!(f, "perhaps in use: {why}: run as root"),
        }
    }
}
