//! What a disk is made of.

use super::layered::Layered;
use super::raw::RawDisk;

/// Streams above each other, or one image.
#[derive(Debug)]
pub(super) enum Source {
    Layers(Box<Layered>),
    Raw(Box<RawDisk>),
}
