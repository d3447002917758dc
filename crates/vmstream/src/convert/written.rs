//! A stream of the new set that is written and waits for its names.

use super::error::ConvertError;
use crate::sidecar::{Digest, SidecarWriter};
use crate::stream::writer::FinishedStream;
use std::io;
use std::path::PathBuf;

/// Where a stream and its sidecar wait.
pub(super) struct Paths {
    pub(super) stream: PathBuf,
    pub(super) sidecar: PathBuf,
}

impl Paths {
    /// A failed call on one of the two.
    pub(super) fn failed(&self, source: io::Error) -> ConvertError {
        ConvertError::Write { path: self.stream.clone(), source }
    }
}

/// A stream that was written.
pub(super) struct Written {
    pub(super) stream: FinishedStream,
    /// Still without its head. A placeholder has none.
    pub(super) sidecar: Option<SidecarWriter>,
    /// Digest of the sidecar whose place it takes.
    pub(super) old: Option<Digest>,
    /// Of each source, over every byte.
    pub(super) sums: Vec<u32>,
}
