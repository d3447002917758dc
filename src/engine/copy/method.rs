//! How the streams of a run are compressed.

use vmstream::chain::StreamSuffix;
use vmstream::stream::Compression;

/// How the streams of a run are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Plain,
    /// Every frame alike.
    Fixed(Compression),
}

impl Method {
    /// What the streams say about themselves.
    pub fn stated(self) -> Option<Compression> {
        match self {
            Self::Plain => None,
            Self::Fixed(compression) => Some(compression),
        }
    }

    /// How the streams' names end.
    pub fn suffix(self) -> StreamSuffix {
        StreamSuffix::of(self.stated())
    }
}
