//! The digest of a stream, made while it is read.

use crate::sidecar::Digest;
use crate::stream::StreamFile;

/// The digest of a stream as its sidecar has it: the meta frame, which comes first, counts last.
pub(super) struct RunningDigest {
    hasher: blake3::Hasher,
    meta_frame: Vec<u8>,
    meta_len: usize,
}

impl RunningDigest {
    pub(super) fn new(stream: &StreamFile) -> Self {
        let meta_len = stream.frames_at() as usize;
        Self { hasher: blake3::Hasher::new(), meta_frame: Vec::new(), meta_len }
    }

    pub(super) fn with(mut self, feed: &[u8]) -> Self {
        let (meta, rest) = feed.split_at((self.meta_len - self.meta_frame.len()).min(feed.len()));
        self.meta_frame.extend(meta);
        self.hasher.update(rest);
        self
    }

    pub(super) fn finish(mut self) -> Digest {
        self.hasher.update(&self.meta_frame);
        self.hasher.finalize().into()
    }
}
