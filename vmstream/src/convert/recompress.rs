//! One stream written again: the same ranges of the disk, stored in another way.

use super::encode::{Encoded, append};
use super::source::{Part, PieceRoom, Source, Sums, read_piece};
use super::{ConvertError, ConvertOptions};
use crate::restore::ordered;
use crate::stream::writer::{FinishedStream, StreamWriter};
use crate::stream::{FrameKind, Frames, Piece, StreamError, StreamFile};
use crate::verify::Watch;
use crate::verify::batch::RunningSum;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// Bytes of the file, and of content, that a thread takes at a time, or a single piece if that is larger.
const BATCH_LEN: u64 = 8 << 20;

/// Writes the one stream of `source` to `path`.
pub(super) fn run(
    source: &Source<'_>,
    path: &Path,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<(FinishedStream, Sums), ConvertError> {
    let layer = &source.layers[0];
    let write_failed = |source| ConvertError::Write { path: path.to_owned(), source };
    let mut writer = create(&layer.stream, path, options).map_err(write_failed)?;
    let mut sums = Sums::new(1);
    let read = |bytes| watch.read(bytes);
    let work = |batch: Batch, (room, encoded, part): &mut (PieceRoom, Encoded, Option<Part>)| {
        let failed = |error| source.failed(0, error);
        encoded.clear();
        let mut sum = RunningSum::new(&layer.stream, batch.file.start);
        for item in batch.items {
            match item {
                Item::Zero(disk) => encoded.zero(disk),
                Item::Piece(piece) => {
                    read_piece(layer, &piece, &mut sum, room, &read).map_err(failed)?;
                    encoded.data(piece.disk.start, &room.plain, options)?;
                }
            }
        }
        sum.upto(batch.file.end, &read).map_err(failed)?;
        *part = Some(Part { layer: 0, sum: sum.finish(), len: batch.file.end - batch.file.start });
        Ok(())
    };
    let take = |(_, encoded, part): &mut (PieceRoom, Encoded, Option<Part>)| {
        part.take().into_iter().for_each(|part| sums.add(part));
        encoded
            .frames()
            .try_for_each(|(disk, stored)| append(&mut writer, disk, stored))
            .map_err(write_failed)
    };
    let batches = Batches::new(&layer.stream).map(|batch| batch.map_err(|error| source.failed(0, error)));
    ordered::run(options.workers, Default::default, batches, work, take)?;
    Ok((writer.finish().map_err(write_failed)?, sums))
}

/// Keeps the form of the meta text: blanks in it tell who wrote the stream.
fn create(stream: &StreamFile, path: &Path, options: ConvertOptions) -> std::io::Result<StreamWriter> {
    let mut meta = stream.meta().clone();
    options.compression.describe(&mut meta);
    if stream.has_reserved_meta() {
        StreamWriter::create(path, meta)
    } else {
        StreamWriter::create_exact(path, meta)
    }
}

/// A part of the file, and what to do with it.
struct Batch {
    file: Range<u64>,
    items: Vec<Item>,
}

enum Item {
    Zero(Range<u64>),
    Piece(Piece),
}

/// A stream cut into batches: in order, without gaps, to the end of the file.
struct Batches<'a> {
    frames: Frames<'a>,
    /// Pieces of a frame that is larger than a batch.
    rest: VecDeque<Piece>,
    file_len: u64,
    at: u64,
}

impl<'a> Batches<'a> {
    fn new(stream: &'a StreamFile) -> Self {
        Self { frames: stream.frames(), rest: VecDeque::new(), file_len: stream.file_len(), at: 0 }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.file_len {
            return None;
        }
        let (start, mut content, mut items) = (self.at, 0, Vec::new());
        while (self.at - start).max(content) < BATCH_LEN {
            if let Some(piece) = self.rest.pop_front() {
                self.at = piece.stored_at + piece.stored_len;
                content += piece.disk.end - piece.disk.start;
                items.push(Item::Piece(piece));
                continue;
            }
            match self.frames.next() {
                Some(Ok(frame)) if frame.header.kind == FrameKind::Data => self.rest.extend(frame.pieces()),
                Some(Ok(frame)) => {
                    self.at = frame.stored_at;
                    items.push(Item::Zero(frame.disk()));
                }
                end => {
                    self.at = self.file_len;
                    if let Some(Err(error)) = end {
                        return Some(Err(error));
                    }
                    break;
                }
            }
        }
        Some(Ok(Batch { file: start..self.at, items }))
    }
}
