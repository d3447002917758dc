//! How to verify, and who hears how far it has come.

use std::num::NonZeroUsize;

/// How much of a set is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Names, sizes, both ends of each file, whether the chain is complete. No content.
    Quick,
    /// Every byte as it is stored: structure, checksum files, sidecars. Where these prove nothing, all is decoded.
    Content,
    /// That, all content decoded, and every disk put together at every point.
    Deep,
}

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// How much to look at.
    pub depth: Depth,
    /// Threads. Each needs up to 64 MiB, for [`Depth::Deep`] 160 MiB.
    pub workers: NonZeroUsize,
}

/// Hears how far a verification has come. Called from several threads.
pub trait Watch: Sync {
    /// So many bytes more were read.
    fn read(&self, bytes: u64);
}

/// Nobody listens.
impl Watch for () {
    fn read(&self, _bytes: u64) {}
}
