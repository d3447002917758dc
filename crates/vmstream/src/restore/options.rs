//! How to extract, as the caller says it.

use super::partial::Existing;
use std::num::NonZeroUsize;

/// What kind of image file to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes, with holes where they are zero.
    #[default]
    Raw,
    /// qcow2, version 3, of clusters of 64 KiB.
    Qcow2,
}

/// How to extract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Replace a file of the target's name, or the content of a block device.
    pub replace: bool,
    /// What kind of file. A block device takes raw only.
    pub format: Format,
    /// Give no image whose content is not what its sidecars say.
    pub check: bool,
    /// Threads that read, decode and write.
    pub workers: NonZeroUsize,
}

impl ExtractOptions {
    pub(super) fn existing(self) -> Existing {
        if self.replace { Existing::Replace } else { Existing::Keep }
    }
}
