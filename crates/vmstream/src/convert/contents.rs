//! What a new set is made of, as values: who decides it and who writes it speak in these.

use super::options::Shape;
use crate::chain::{DiskTarget, PointId, RawImage, StreamEntry, StreamKind};
use crate::sidecar::LeftOut;
use std::path::PathBuf;
use std::time::SystemTime;

/// A restore point of the new set.
pub(super) struct NewPoint<'a> {
    pub(super) id: PointId,
    /// Of all its files.
    pub(super) time: SystemTime,
    pub(super) streams: Vec<NewStream<'a>>,
    pub(super) images: Vec<NewImage<'a>>,
    /// The disks of the domain that it does not have, as far as the old sidecars tell.
    pub(super) left_out: Vec<LeftOut>,
    /// Everything else that belongs to it.
    pub(super) files: Vec<NewFile>,
}

/// A stream to write.
pub(super) struct NewStream<'a> {
    pub(super) kind: StreamKind,
    pub(super) disk: DiskTarget,
    pub(super) shape: Shape,
    /// What it is made of, oldest first; at least one.
    pub(super) sources: Vec<&'a StreamEntry>,
    /// The newest is of another backup, or may be: what its sidecar knows of the disk proves nothing.
    pub(super) in_doubt: bool,
}

/// A raw image to copy.
pub(super) struct NewImage<'a> {
    pub(super) disk: DiskTarget,
    pub(super) source: &'a RawImage,
    /// It is of another backup, or may be: what its sidecar knows of it proves nothing.
    pub(super) in_doubt: bool,
    /// When it was taken.
    pub(super) taken: PointId,
}

/// A file to copy.
pub(super) struct NewFile {
    pub(super) name: String,
    pub(super) from: PathBuf,
    pub(super) time: SystemTime,
    /// For its owner alone, and so are the folders it lies in.
    pub(super) secret: bool,
}

/// A link inside the set.
pub(super) struct NewLink {
    pub(super) name: String,
    pub(super) target: String,
}

/// What a TPM left, in the new set.
pub(super) enum NewTpm {
    /// The files of a folder.
    Folder(Vec<NewFile>),
    /// The state is that of a folder which the set has under another name.
    Link(NewLink),
}

impl NewPoint<'_> {
    /// A point without anything.
    pub(super) fn new(id: PointId, time: SystemTime) -> Self {
        Self { id, time, streams: Vec::new(), images: Vec::new(), left_out: Vec::new(), files: Vec::new() }
    }
}
