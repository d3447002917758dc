//! What goes from stage to stage while a disk is copied.

use vmstream::sidecar::{PlainSums, StoredSums};

use super::budget::Permit;
use super::error::CopyError;

/// A read that is to be done.
pub(super) struct ReadOp {
    pub(super) seq: u64,
    pub(super) start: u64,
    pub(super) len: usize,
    pub(super) permit: Permit,
}

/// A range of the disk on its way to the file.
pub(super) enum Content {
    /// Bytes as the file stores them.
    Data {
        plain_len: u64,
        stored: Vec<u8>,
        sums: Sums,
    },
    Zero {
        len: u64,
    },
}

/// Checksums of a piece: of its content, and of what the file stores. Made once, by the thread that compresses.
pub(super) struct Sums {
    pub(super) plain: PlainSums,
    pub(super) stored: StoredSums,
}

/// One numbered piece for the writer.
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) start: u64,
    pub(super) content: Content,
    pub(super) permit: Permit,
}

impl Piece {
    /// Bytes that it takes in the file.
    pub(super) fn stored_len(&self) -> usize {
        match &self.content {
            Content::Data { stored, .. } => stored.len(),
            Content::Zero { .. } => 0,
        }
    }
}

/// What reaches the writer.
pub(super) enum ToWriter {
    Piece(Piece),
    /// The scout went on: the guest's side answers, though there may be nothing to write.
    Surveyed,
    /// The scout is through: so many pieces there are.
    Total(u64),
    /// A frame could not be made.
    Failed(CopyError),
}
