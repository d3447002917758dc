//! A value that several keys say together.

use super::CompressionMethod;

/// How to compress: what the keys come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionChoice {
    pub method: CompressionMethod,
    /// The level, for LZ4 and zstd; means nothing for the others.
    pub level: u32,
}

impl Default for CompressionChoice {
    fn default() -> Self {
        Self { method: CompressionMethod::Auto, level: 0 }
    }
}
