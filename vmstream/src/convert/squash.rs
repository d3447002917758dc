//! A chain put together as one new full: each byte from the newest stream that has it, each stream read once.
//!
//! ```text
//! walk all headers ─► windows of the disk ─► threads read, prove, decode and compress ─► writer, in disk order
//! ```
//! Of what newer streams hide only the checksum is taken.

use super::encode::{Encoded, append};
use super::source::{Part, PieceRoom, Source, Sums, read_piece};
use super::{ConvertError, ConvertOptions};
use crate::chain::{CheckpointName, Coverage};
use crate::restore::content::WINDOW_LEN;
use crate::restore::map::{disk_size, limits};
use crate::restore::replay::Walk;
use crate::restore::sparse::is_zero;
use crate::restore::{Layer, MapError, ordered};
use crate::stream::writer::{FinishedStream, StreamWriter};
use crate::stream::{Piece, StreamMeta};
use crate::verify::Watch;
use crate::verify::batch::RunningSum;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Zeros of so many bytes in a row, and on such a border, are told as zeros: much shorter ones would cost more in frames
/// than in content.
const ZERO_LEN: u64 = 64 << 10;

/// Bytes of data that a disk of zeros ends with: old readers skip streams without data.
const SECTOR: u64 = 512;

/// Writes the disk that `source` makes up to `path`.
pub(super) fn run(
    source: &Source<'_>,
    path: &Path,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<(FinishedStream, Sums), ConvertError> {
    let write_failed = |source| ConvertError::Write { path: path.to_owned(), source };
    let size = disk_size(&source.layers);
    let meta = meta(source, size, options);
    let mut full = Full { writer: StreamWriter::create(path, meta).map_err(write_failed)?, zeros: 0..0 };
    let mut sums = Sums::new(source.layers.len());
    let work = |job: Job, room: &mut Room| room.build(source, job, options, &|bytes| watch.read(bytes));
    let take = |room: &mut Room| {
        room.parts.drain(..).for_each(|part| sums.add(part));
        room.encoded.frames().try_for_each(|(disk, stored)| full.add(disk, stored)).map_err(write_failed)
    };
    let jobs = Jobs::new(&source.layers, size).map(|job| job.map_err(ConvertError::from));
    ordered::run(options.workers, Room::default, jobs, work, take)?;
    let mut last = Encoded::default();
    last.data(size.saturating_sub(SECTOR), &vec![0; SECTOR.min(size) as usize], options)?;
    Ok((full.finish(&last).map_err(write_failed)?, sums))
}

/// That of the newest stream, as a chain's first.
fn meta(source: &Source<'_>, size: u64, options: ConvertOptions) -> StreamMeta {
    let mut meta = source.newest().clone();
    meta.virtual_size = size;
    meta.checkpoint_name = CheckpointName::FIRST.to_string();
    meta.parent_checkpoint = String::new();
    meta.incremental = false;
    options.compression.describe(&mut meta);
    meta
}

/// A full in the making: touching zeros become one frame.
struct Full {
    writer: StreamWriter,
    zeros: Range<u64>,
}

impl Full {
    /// Takes the range that follows.
    fn add(&mut self, disk: Range<u64>, stored: Option<&[u8]>) -> io::Result<()> {
        let end = disk.end;
        if stored.is_none() {
            self.zeros.end = end;
            return Ok(());
        }
        self.end_zeros()?;
        self.zeros = end..end;
        append(&mut self.writer, disk, stored)
    }

    fn end_zeros(&mut self) -> io::Result<()> {
        if self.zeros.is_empty() {
            return Ok(());
        }
        append(&mut self.writer, self.zeros.clone(), None)
    }

    /// Ends the stream; one that has no data yet with `last`.
    fn finish(mut self, last: &Encoded) -> io::Result<FinishedStream> {
        let empty = self.writer.data_size() == 0;
        if empty {
            self.zeros.end = self.zeros.end.saturating_sub(SECTOR);
        }
        self.end_zeros()?;
        if empty {
            last.frames().try_for_each(|(disk, stored)| append(&mut self.writer, disk, stored))?;
        }
        self.writer.finish()
    }
}

/// A window of the disk, and what to read for it.
struct Job {
    disk: Range<u64>,
    layers: Vec<LayerPart>,
}

/// What one stream has in a window.
struct LayerPart {
    layer: usize,
    /// Bytes of its file that belong to this window: all, in order, without gaps.
    file: Range<u64>,
    /// Pieces that newer streams do not hide, with the ranges of the disk to take from them.
    visible: Vec<(Piece, Vec<Range<u64>>)>,
}

/// The windows of a disk; behind the last one, what is left of each file.
struct Jobs<'a> {
    layers: &'a [Layer],
    walks: Vec<Walk<'a>>,
    /// Up to where each file was given out.
    files_at: Vec<u64>,
    size: u64,
    at: u64,
    tails: Range<usize>,
}

impl<'a> Jobs<'a> {
    fn new(layers: &'a [Layer], size: u64) -> Self {
        let walks = layers.iter().zip(limits(layers)).map(|(layer, limit)| Walk::new(layer, limit)).collect();
        Self { layers, walks, files_at: vec![0; layers.len()], size, at: 0, tails: 0..layers.len() }
    }

    fn window(&mut self) -> Result<Job, MapError> {
        let disk = self.at..self.size.min(self.at + WINDOW_LEN);
        self.at = disk.end;
        let (mut hidden, mut layers) = (Coverage::new(), Vec::new());
        // The newest first: it hides what the others have.
        for layer in (0..self.walks.len()).rev() {
            let file_start = self.files_at[layer];
            let mut visible = Vec::new();
            for span in self.walks[layer].upto(disk.end)? {
                let inside = span.disk.start.max(disk.start)..span.disk.end.min(disk.end);
                if let Some(piece) = span.piece {
                    self.files_at[layer] = self.files_at[layer].max(piece.stored_at + piece.stored_len);
                    let seen: Vec<_> = hidden.gaps(inside.clone()).collect();
                    if !seen.is_empty() {
                        visible.push((piece, seen));
                    }
                }
                hidden.insert(inside);
            }
            let file = file_start..self.files_at[layer];
            if !file.is_empty() || !visible.is_empty() {
                layers.push(LayerPart { layer, file, visible });
            }
        }
        Ok(Job { disk, layers })
    }

    fn tail(&mut self, layer: usize) -> Result<Job, MapError> {
        self.walks[layer].drain()?;
        let file = self.files_at[layer]..self.layers[layer].stream.file_len();
        let part = LayerPart { layer, file, visible: Vec::new() };
        Ok(Job { disk: self.size..self.size, layers: vec![part] })
    }
}

impl Iterator for Jobs<'_> {
    type Item = Result<Job, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at < self.size {
            return Some(self.window());
        }
        let layer = self.tails.next()?;
        Some(self.tail(layer))
    }
}

/// One thread's room for a window, and what it made of it.
#[derive(Default)]
struct Room {
    piece: PieceRoom,
    window: Vec<u8>,
    encoded: Encoded,
    parts: Vec<Part>,
}

impl Room {
    fn build(
        &mut self,
        source: &Source<'_>,
        job: Job,
        options: ConvertOptions,
        read: &dyn Fn(u64),
    ) -> Result<(), ConvertError> {
        let Job { disk, layers } = job;
        self.window.clear();
        self.parts.clear();
        if layers.iter().any(|part| !part.visible.is_empty()) {
            self.window.resize((disk.end - disk.start) as usize, 0);
        }
        for part in &layers {
            self.fill(source, part, disk.start, read)?;
        }
        self.encode(disk, options)
    }

    fn fill(
        &mut self,
        source: &Source<'_>,
        part: &LayerPart,
        window_start: u64,
        read: &dyn Fn(u64),
    ) -> Result<(), ConvertError> {
        let layer = &source.layers[part.layer];
        let failed = |error| source.failed(part.layer, error);
        let mut sum = RunningSum::new(&layer.stream, part.file.start);
        for (piece, seen) in &part.visible {
            read_piece(layer, piece, &mut sum, &mut self.piece, read).map_err(failed)?;
            for range in seen {
                let from = (range.start - piece.disk.start) as usize..(range.end - piece.disk.start) as usize;
                let to = (range.start - window_start) as usize..(range.end - window_start) as usize;
                self.window[to].copy_from_slice(&self.piece.plain[from]);
            }
        }
        sum.upto(part.file.end, read).map_err(failed)?;
        let len = part.file.end - part.file.start;
        self.parts.push(Part { layer: part.layer, sum: sum.finish(), len });
        Ok(())
    }

    /// The window as frames: runs of zeros, and what lies between them.
    fn encode(&mut self, disk: Range<u64>, options: ConvertOptions) -> Result<(), ConvertError> {
        let Self { window, encoded, .. } = self;
        encoded.clear();
        if window.is_empty() {
            if !disk.is_empty() {
                encoded.zero(disk);
            }
            return Ok(());
        }
        let mut data = 0..0;
        for (number, block) in window.chunks(ZERO_LEN as usize).enumerate() {
            let start = number * ZERO_LEN as usize;
            if is_zero(block) {
                encoded.data(disk.start + data.start as u64, &window[data.clone()], options)?;
                encoded.zero(disk.start + start as u64..disk.start + (start + block.len()) as u64);
                data = start + block.len()..start + block.len();
            } else {
                data.end = start + block.len();
            }
        }
        encoded.data(disk.start + data.start as u64, &window[data], options)?;
        Ok(())
    }
}
