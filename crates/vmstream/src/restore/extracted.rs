//! What the caller of an extraction hears, meanwhile and at its end.

use crate::chain::{PointId, UnusedSidecar};
use crate::sidecar::Checked;

/// Hears how far an extraction has come. Called from several threads.
pub trait Watch: Sync {
    /// `at` bytes of a disk of `size` bytes are done or being done.
    fn progress(&self, at: u64, size: u64);

    /// Something that does not stop it, and that a person should know.
    fn warning(&self, _text: &str) {}
}

/// Nobody listens.
impl Watch for () {
    fn progress(&self, _at: u64, _size: u64) {}
}

/// What an extraction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes written: what was not zero.
    pub written_bytes: u64,
    /// When the content was taken. Earlier than asked for when the disk is raw: such are copied with the full only.
    pub taken: PointId,
    /// Bytes that are what the sidecars say; `None` when there are no sidecars.
    pub proven_bytes: Option<u64>,
    /// Bytes that are not.
    pub wrong_bytes: u64,
    /// Sidecars that say nothing of it.
    pub unused_sidecars: Vec<UnusedSidecar>,
}

impl Extracted {
    pub(super) fn new(
        (size, written_bytes): (u64, u64),
        taken: PointId,
        checked: Option<&Checked>,
        unused_sidecars: Vec<UnusedSidecar>,
    ) -> Self {
        let proven_bytes = checked.map(|checked| checked.proven_bytes);
        let wrong_bytes = checked.map_or(0, Checked::wrong_bytes);
        Self { size, written_bytes, taken, proven_bytes, wrong_bytes, unused_sidecars }
    }
}
