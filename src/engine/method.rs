//! How the streams of a run are compressed.
//!
//! Must not live here: when `auto` compresses harder (`copy::effort`).

use vmstream::chain::StreamSuffix;
use vmstream::stream::Compression;

/// The level of LZ4 under `auto` without anything to spend.
pub(super) const QUICK: u32 = 1;

/// How the streams of a run are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Plain,
    /// Every frame alike.
    Fixed(Compression),
    /// LZ4 at its quickest, and harder only while compressors and processors would otherwise wait. One stream has frames of
    /// several levels, which every reader reads.
    Auto,
}

impl Method {
    /// What the streams say about themselves.
    pub fn stated(self) -> Option<Compression> {
        match self {
            Self::Plain => None,
            Self::Fixed(compression) => Some(compression),
            Self::Auto => Some(Compression::Lz4(QUICK)),
        }
    }

    /// How the streams' names end.
    pub fn suffix(self) -> StreamSuffix {
        StreamSuffix::of(self.stated())
    }
}
