//! A stream's file cut into batches that any thread can check: every byte summed, every piece held against its block in
//! the sidecar, and decoded where that is wanted.

use super::finding::{Finding, Level};
use crate::restore::ordered::BATCH_LEN;
use crate::sidecar::{Block, Blocks};
use crate::stream::running::{Feed, RunningSum};
use crate::stream::{Coding, FrameKind, Frames, Piece, StreamError, StreamFile};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// A part of the file: its pieces, and all bytes from one place to another.
pub(super) struct Batch {
    file: Range<u64>,
    /// Each with what the sidecar says of it.
    pieces: Vec<(Piece, Option<Block>)>,
}

/// The file's batches: in order, without gaps, to the end of the file.
pub(super) struct Batches<'a> {
    frames: Frames<'a>,
    /// Pieces of a frame that is larger than a batch.
    rest: VecDeque<Piece>,
    blocks: Option<Blocks<'a>>,
    file_len: u64,
    at: u64,
    pub(super) frame_count: u64,
    pub(super) data_bytes: u64,
    /// Where the walk broke off.
    pub(super) broken: Option<StreamError>,
    /// The blocks are not those of the frames, from a file offset on.
    pub(super) other_blocks: Option<u64>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(stream: &'a StreamFile, blocks: Option<Blocks<'a>>) -> Self {
        let (frames, file_len) = (stream.frames(), stream.file_len());
        Self {
            frames,
            rest: VecDeque::new(),
            blocks,
            file_len,
            at: 0,
            frame_count: 0,
            data_bytes: 0,
            broken: None,
            other_blocks: None,
        }
    }

    /// The block of a piece; `None` when there is no sidecar, or from the first that is another one.
    fn block_of(&mut self, piece: &Piece) -> Option<Block> {
        let block = self.blocks.as_mut()?.next();
        let block = block.and_then(Result::ok).filter(|block| block.is_of(piece));
        if block.is_none() {
            self.other_blocks = Some(piece.stored_at);
            self.blocks = None;
        }
        block
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.at >= self.file_len {
            return None;
        }
        let start = self.at;
        let mut pieces = Vec::new();
        while self.at - start < BATCH_LEN {
            if let Some(piece) = self.rest.pop_front() {
                self.at = piece.stored_at + piece.stored_len;
                let block = self.block_of(&piece);
                pieces.push((piece, block));
                continue;
            }
            let frame = match self.frames.next() {
                None => {
                    self.at = self.file_len;
                    break;
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    self.at = self.file_len;
                    break;
                }
                Some(Ok(frame)) => frame,
            };
            self.frame_count += 1;
            if frame.header.kind == FrameKind::Data {
                self.data_bytes += frame.header.len;
                self.rest.extend(frame.pieces());
            } else {
                self.at = frame.stored_at;
            }
        }
        Some(Batch { file: start..self.at, pieces })
    }
}

/// One thread's room for a batch, and what it found there.
#[derive(Default)]
pub(super) struct BatchWork {
    stored: Vec<u8>,
    plain: Vec<u8>,
    pub(super) errors: Vec<StreamError>,
    /// Pieces that are not as their blocks say.
    pub(super) wrong: Vec<WrongBlock>,
    /// Adler-32 of the batch; `None` when it could not be read.
    pub(super) sum: Option<u32>,
    /// `None` when it is not wanted, or a payload could not be read.
    pub(super) feed: Option<Feed>,
    pub(super) len: u64,
}

/// A piece that is not as its block says.
pub(super) struct WrongBlock {
    piece: Piece,
    /// The stored bytes are as they were; what they hold is not.
    stored_as_it_was: bool,
}

impl WrongBlock {
    pub(super) fn finding(self, path: &Path) -> Finding {
        let message = match self.stored_as_it_was {
            false => "the block is not as it was written: its checksum in the sidecar differs",
            true => {
                "the block is as it was written, but holds other content than the sidecar says: a fault of the host that wrote it"
            }
        };
        Finding {
            frame: self.piece.frame,
            at: Some(self.piece.stored_at),
            disk_range: Some(self.piece.disk),
            ..Finding::about(Level::Damage, path, message.to_owned())
        }
    }
}

impl BatchWork {
    /// Sums the stored bytes, and holds them against their blocks. What they hold is not looked at.
    pub(super) fn check_stored(
        &mut self,
        stream: &StreamFile,
        batch: &Batch,
        want_digest: bool,
        read: &dyn Fn(u64),
    ) {
        let Range { start, end } = batch.file;
        self.len = end - start;
        let mut sum = RunningSum::new(stream, start);
        // Without blocks nobody needs the bytes together.
        let pieces_end = match batch.pieces.last() {
            Some((piece, Some(_))) => piece.stored_at + piece.stored_len,
            _ => start,
        };
        let done = sum.slab(pieces_end, &mut self.stored, read).and_then(|()| {
            sum.feed = self.hold(start, &batch.pieces).filter(|_| want_digest);
            sum.upto(end, read)
        });
        self.end(done, sum);
    }

    /// Holds payloads that were read together against their blocks. Returns what all that was read adds to the digest.
    fn hold(&mut self, start: u64, pieces: &[(Piece, Option<Block>)]) -> Option<Feed> {
        let (mut feed, mut at) = (Feed::new(), 0);
        for (piece, block) in pieces {
            let from = (piece.stored_at - start) as usize;
            let to = from + piece.stored_len as usize;
            let (bytes, block) = (self.stored.get(from..to)?, (*block)?);
            if crc32fast::hash(bytes) != block.stored_crc32 {
                self.wrong.push(WrongBlock { piece: piece.clone(), stored_as_it_was: false });
            }
            feed.extend(&self.stored[at..from]);
            feed.extend(blake3::hash(bytes).as_bytes());
            at = to;
        }
        Some(feed)
    }

    /// Takes the sum of a batch that was read to its end, or why it was not.
    fn end(&mut self, done: Result<(), StreamError>, sum: RunningSum<'_>) {
        (self.sum, self.feed) = match done {
            Ok(()) => (Some(sum.finish()), sum.feed),
            Err(error) => {
                self.errors.push(error);
                (None, None)
            }
        };
    }

    /// Sums the stored bytes, decodes them, and holds both against the blocks.
    pub(super) fn check(
        &mut self,
        stream: &StreamFile,
        batch: &Batch,
        want_digest: bool,
        read: &dyn Fn(u64),
    ) {
        self.len = batch.file.end - batch.file.start;
        let feed = want_digest.then(Feed::new);
        let mut sum = RunningSum::new(stream, batch.file.start);
        sum.feed = feed;
        for (piece, block) in &batch.pieces {
            let outcome = stream.read_piece(piece, &mut self.stored, &mut self.plain);
            let stored = if piece.coding == Coding::Plain { &self.plain } else { &self.stored };
            if outcome.is_ok() {
                self.wrong.extend(block.and_then(|block| wrong_block(piece, &block, stored, &self.plain)));
            }
            if let Err(error) = outcome.and_then(|()| sum.take(piece, stored, read)) {
                self.errors.push(error);
            }
        }
        let done = sum.upto(batch.file.end, read);
        self.end(done, sum);
    }
}

fn wrong_block(piece: &Piece, block: &Block, stored: &[u8], plain: &[u8]) -> Option<WrongBlock> {
    let stored_as_it_was = crc32fast::hash(stored) == block.stored_crc32;
    let same_bytes = piece.coding == Coding::Plain && block.stored_crc32 == block.plain_crc32;
    let fine = stored_as_it_was && (same_bytes || crc32fast::hash(plain) == block.plain_crc32);
    (!fine).then(|| WrongBlock { piece: piece.clone(), stored_as_it_was })
}
