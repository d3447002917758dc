//! What a disk becomes in a run.

use vmstream::chain::CheckpointName;

/// What a disk becomes in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A stream; of the changes since a checkpoint, or of the whole disk.
    Stream {
        /// The parent checkpoint. `None` also for a disk that was added to a chain.
        since: Option<CheckpointName>,
        /// The disk gets a bitmap with the new checkpoint.
        marked: bool,
    },
    RawImage,
}

impl Role {
    /// The checkpoint whose changes are wanted.
    pub(crate) fn since(self) -> Option<CheckpointName> {
        match self {
            Self::Stream { since, .. } => since,
            Self::RawImage => None,
        }
    }

    /// Whether the disk gets a bitmap with the new checkpoint.
    pub(crate) fn is_marked(self) -> bool {
        matches!(self, Self::Stream { marked: true, .. })
    }
}
