//! One stream written again: the same ranges of the disk, stored in another way.

use super::encode::{Encoded, Encoding, Tell};
use super::error::ConvertError;
use super::options::ConvertOptions;
use super::source::Source;
use super::written::{Paths, Written};
use crate::restore::ordered::{self, BATCH_LEN};
use crate::restore::summed::stored_of;
use crate::sidecar::{Granules, Recorder, Sidecar, SidecarWriter};
use crate::stream::checksum::{Adler32, combine};
use crate::stream::running::RunningSum;
use crate::stream::writer::StreamWriter;
use crate::stream::{FrameKind, Frames, Piece, StreamError, StreamFile};
use crate::verify::Watch;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// Writes the one stream of `source` again.
pub(super) fn run(
    source: &Source<'_>,
    paths: &Paths,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<Written, ConvertError> {
    let stream = &source.layers[0].stream;
    let write_failed = |source| paths.failed(source);
    let writer = create(stream, paths, options).map_err(write_failed)?;
    if stream.is_placeholder() {
        let sums = vec![read_all(source, watch)?];
        let stream = writer.finish().map_err(write_failed)?;
        return Ok(Written { stream, sidecar: None, old: None, sums });
    }
    let granules = Granules::of_disk(stream.meta().virtual_size);
    let old = source.sidecars().pop().flatten().filter(|old| old.head().granules == granules);
    // What the old sidecar knows goes on as it is; without one, what the frames tell of themselves.
    let tell = match (&old, stream.meta().incremental) {
        (Some(_), _) => Tell::Nothing,
        (None, true) => Tell::Data,
        (None, false) => Tell::All,
    };
    let sidecar = SidecarWriter::create(&paths.sidecar, granules).map_err(write_failed)?;
    let mut recorder = Recorder::new(writer, sidecar);
    let sum = copy(source, Encoding { options, granules }, watch, |encoded| {
        encoded.frames().try_for_each(|frame| frame.append(&mut recorder, tell)).map_err(write_failed)
    })?;
    let (stream, mut sidecar) = recorder.finish().map_err(write_failed)?;
    if let Some(old) = &old {
        carry(old, &mut sidecar).map_err(write_failed)?;
    }
    Ok(Written { stream, sidecar: Some(sidecar), old: old.map(|old| *old.digest()), sums: vec![sum] })
}

/// What is known of the disk's content does not depend on how it is stored.
fn carry(old: &Sidecar, new: &mut SidecarWriter) -> io::Result<()> {
    old.runs().try_for_each(|run| new.run(&run.map_err(io::Error::other)?))
}

/// Reads a stream without content for its checksum.
fn read_all(source: &Source<'_>, watch: &dyn Watch) -> Result<u32, ConvertError> {
    let stream = &source.layers[0].stream;
    let (mut sum, len) = (RunningSum::new(stream, 0), stream.file_len());
    sum.upto(len, &|bytes| watch.read(bytes)).map_err(|error| source.failed(0, error))?;
    Ok(sum.finish())
}

/// One thread's room for a batch, and what it made of it.
#[derive(Default)]
struct Room {
    stored: Vec<u8>,
    plain: Vec<u8>,
    encoded: Encoded,
    /// Of the batch's part of the file: its Adler-32, and its bytes.
    sum: (u32, u64),
}

/// Reads a stream, decodes and encodes it on many threads; `take` gets the frames in order. Returns the sum of its file.
fn copy(
    source: &Source<'_>,
    encoding: Encoding,
    watch: &dyn Watch,
    mut take: impl FnMut(&Encoded) -> Result<(), ConvertError>,
) -> Result<u32, ConvertError> {
    let stream = &source.layers[0].stream;
    let failed = |error| source.failed(0, error);
    let read = |bytes| watch.read(bytes);
    let work = |batch: Batch, room: &mut Room| {
        let Room { stored, plain, encoded, .. } = room;
        encoded.clear();
        let mut sum = RunningSum::new(stream, batch.file.start);
        for item in batch.items {
            match item {
                Item::Zero(disk) => encoded.zero(disk),
                Item::Piece(piece) => {
                    let done = stream.read_piece(&piece, stored, plain);
                    done.and_then(|()| sum.take(&piece, stored_of(&piece, stored, plain), &read))
                        .map_err(failed)?;
                    encoded.data(piece.disk.start, plain, encoding)?;
                }
            }
        }
        sum.upto(batch.file.end, &read).map_err(failed)?;
        room.sum = (sum.finish(), batch.file.end - batch.file.start);
        Ok(())
    };
    let mut sum = Adler32::new().finish();
    let add = |room: &mut Room| {
        sum = combine(sum, room.sum.0, room.sum.1);
        take(&room.encoded)
    };
    let batches = Batches::new(stream).map(|batch| batch.map_err(failed));
    ordered::run(encoding.options.workers, Room::default, batches, work, add)?;
    Ok(sum)
}

/// Keeps the form of the meta text: blanks in it tell who wrote the stream.
fn create(stream: &StreamFile, paths: &Paths, options: ConvertOptions) -> io::Result<StreamWriter> {
    let mut meta = stream.meta().clone();
    options.compression.describe(&mut meta);
    match stream.has_reserved_meta() {
        true => StreamWriter::create(&paths.stream, meta),
        false => StreamWriter::create_exact(&paths.stream, meta),
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
