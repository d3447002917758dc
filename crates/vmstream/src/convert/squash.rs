//! A chain put together as one new full: each byte from the newest stream that has it, each stream read once.
//!
//! ```text
//! walk all headers ─► windows of the disk ─► threads read, prove, decode and compress ─► writer, in disk order
//! ```
//! Of what newer streams hide only the checksum is taken. The new sidecar knows what those of the chain knew of the disk at
//! that point, and no more, and nothing where it is in doubt which streams belong there: whether the right streams were put together, nothing else tells.

use super::encode::{Encoded, Encoding, Frame, Tell};
use super::error::ConvertError;
use super::options::ConvertOptions;
use super::source::{Part, PieceRoom, Source, Sums, read_piece};
use super::written::{Paths, Written};
use crate::chain::{CheckpointName, Coverage};
use crate::restore::claim;
use crate::restore::content::WINDOW_LEN;
use crate::restore::map::{disk_size, limits};
use crate::restore::replay::Walk;
use crate::restore::zeros::is_zero;
use crate::restore::{Layer, MapError, ordered};
use crate::sidecar::{Checked, Granules, Recorder, Run, RunKind, SidecarWriter, Tables, Value};
use crate::stream::running::RunningSum;
use crate::stream::writer::{FinishedStream, LEAST_DATA, StreamWriter};
use crate::stream::{Piece, StreamMeta};
use crate::verify::Watch;
use std::io;
use std::ops::Range;

/// Zeros of so many bytes in a row, and on such a border, are told as zeros: much shorter ones would cost more in frames
/// than in content.
const ZERO_LEN: u64 = 64 << 10;

/// Writes the disk that `source` makes up.
pub(super) fn run(
    source: &Source<'_>,
    paths: &Paths,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<Written, ConvertError> {
    let write_failed = |source| paths.failed(source);
    let size = disk_size(&source.layers);
    claim::check_layers(size, &source.layers)?;
    let encoding = Encoding { options, granules: Granules::of_disk(size) };
    let writer = StreamWriter::create(&paths.stream, meta(source, size, options)).map_err(write_failed)?;
    let sidecar = SidecarWriter::create(&paths.sidecar, encoding.granules).map_err(write_failed)?;
    let mut full = Full { recorder: Recorder::new(writer, sidecar), zeros: 0..0 };
    let mut sums = Sums::new(source.layers.len());
    let work = |job: Job, room: &mut Room| room.build(source, job, encoding, &|bytes| watch.read(bytes));
    let take = |room: &mut Room| {
        room.parts.drain(..).for_each(|part| sums.add(part));
        full.know(&room.disk, encoding.granules, room.known.take()).map_err(write_failed)?;
        room.encoded.frames().try_for_each(|frame| full.add(frame)).map_err(write_failed)
    };
    ordered::run(options.workers, Room::default, Jobs::new(source, size), work, take)?;
    let mut last = Encoded::default();
    last.data(size.saturating_sub(LEAST_DATA), &vec![0; LEAST_DATA.min(size) as usize], encoding)?;
    let (stream, sidecar) = full.finish(&last).map_err(write_failed)?;
    Ok(Written { stream, sidecar: Some(sidecar), old: None, sums })
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
    recorder: Recorder,
    zeros: Range<u64>,
}

/// Somebody else tells what the disk holds.
const TELL: Tell = Tell::Nothing;

impl Full {
    /// Takes what is known of the window that follows.
    fn know(&mut self, disk: &Range<u64>, granules: Granules, known: Option<Vec<Value>>) -> io::Result<()> {
        if disk.is_empty() {
            return Ok(());
        }
        let numbers = disk.start / granules.size()..disk.end.div_ceil(granules.size());
        let unknown = || vec![Value::Unknown; (numbers.end - numbers.start) as usize];
        for (first, value) in numbers.clone().zip(known.unwrap_or_else(unknown)) {
            let kind = match value {
                Value::Known(sum) => RunKind::Known(vec![sum]),
                Value::Unknown => RunKind::Unknown(1),
            };
            self.recorder.run(&Run { first, kind })?;
        }
        Ok(())
    }

    /// Takes the range that follows.
    fn add(&mut self, frame: Frame<'_>) -> io::Result<()> {
        let end = frame.disk.end;
        if frame.data.is_none() {
            self.zeros.end = end;
            return Ok(());
        }
        self.end_zeros()?;
        self.zeros = end..end;
        frame.append(&mut self.recorder, TELL)
    }

    fn end_zeros(&mut self) -> io::Result<()> {
        if self.zeros.is_empty() {
            return Ok(());
        }
        Frame { disk: self.zeros.clone(), data: None }.append(&mut self.recorder, TELL)
    }

    /// Ends the stream; one that has no data yet with `last`.
    fn finish(mut self, last: &Encoded) -> io::Result<(FinishedStream, SidecarWriter)> {
        let empty = self.recorder.data_size() == 0;
        if empty {
            self.zeros.end = self.zeros.end.saturating_sub(LEAST_DATA);
        }
        self.end_zeros()?;
        if empty {
            last.frames().try_for_each(|frame| frame.append(&mut self.recorder, TELL))?;
        }
        self.recorder.finish()
    }
}

/// A window of the disk, and what to read for it.
struct Job {
    disk: Range<u64>,
    layers: Vec<LayerPart>,
    /// What the sidecars know of it.
    known: Option<(Granules, Vec<Value>)>,
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
    tables: Tables,
    /// Up to where each file was given out.
    files_at: Vec<u64>,
    size: u64,
    at: u64,
    tails: Range<usize>,
}

impl<'a> Jobs<'a> {
    fn new(source: &'a Source<'_>, size: u64) -> Self {
        let layers = &source.layers;
        let walks = layers.iter().zip(limits(layers)).map(|(layer, limit)| Walk::new(layer, limit)).collect();
        let tables = Tables::new(source.sidecars());
        Self { layers, walks, tables, files_at: vec![0; layers.len()], size, at: 0, tails: 0..layers.len() }
    }

    /// What the sidecars know of a window at the newest stream, where they are about a disk of this size.
    fn known(&mut self, disk: &Range<u64>) -> Result<Option<(Granules, Vec<Value>)>, ConvertError> {
        let (newest, size, mut found) = (self.layers.len() - 1, self.size, None);
        let looked = self.tables.window(disk, |layer, known| {
            let known = known.filter(|(granules, _)| layer == newest && granules.disk_size() == size);
            found = known.map(|(granules, values)| (granules, values.to_vec()));
        });
        looked
            .map_err(|source| ConvertError::Sidecar { stream: self.layers[newest].path.clone(), source })?;
        Ok(found)
    }

    fn window(&mut self) -> Result<Job, ConvertError> {
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
        let known = self.known(&disk)?;
        Ok(Job { disk, layers, known })
    }

    fn tail(&mut self, layer: usize) -> Result<Job, MapError> {
        self.walks[layer].drain()?;
        let file = self.files_at[layer]..self.layers[layer].stream.file_len();
        let part = LayerPart { layer, file, visible: Vec::new() };
        Ok(Job { disk: self.size..self.size, layers: vec![part], known: None })
    }
}

impl Iterator for Jobs<'_> {
    type Item = Result<Job, ConvertError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at < self.size {
            return Some(self.window());
        }
        let layer = self.tails.next()?;
        Some(self.tail(layer).map_err(ConvertError::from))
    }
}

/// One thread's room for a window, and what it made of it.
#[derive(Default)]
struct Room {
    piece: PieceRoom,
    window: Vec<u8>,
    encoded: Encoded,
    parts: Vec<Part>,
    disk: Range<u64>,
    known: Option<Vec<Value>>,
}

impl Room {
    fn build(
        &mut self,
        source: &Source<'_>,
        job: Job,
        encoding: Encoding,
        read: &dyn Fn(u64),
    ) -> Result<(), ConvertError> {
        let Job { disk, layers, known } = job;
        self.window.clear();
        self.parts.clear();
        if layers.iter().any(|part| !part.visible.is_empty()) {
            self.window.resize((disk.end - disk.start) as usize, 0);
        }
        for part in &layers {
            self.fill(source, part, disk.start, read)?;
        }
        self.disk = disk.clone();
        self.known = None;
        if let Some((granules, values)) = known {
            let values = self.prove(source, (granules, values), encoding.options.check)?;
            self.known = Some(values).filter(|_| granules == encoding.granules);
        }
        self.encode(disk, encoding)
    }

    /// Holds the window against what is known of it. Where that may differ, what differs is not known.
    fn prove(
        &self,
        source: &Source<'_>,
        (granules, mut values): (Granules, Vec<Value>),
        check: bool,
    ) -> Result<Vec<Value>, ConvertError> {
        let mut checked = Checked::default();
        checked.add_window(granules, &values, self.disk.start, &self.window);
        match checked.wrong.first() {
            Some(range) if check => {
                let path = source.layers[source.layers.len() - 1].path.clone();
                return Err(ConvertError::OtherContent { path, range: range.clone() });
            }
            _ => {}
        }
        let first = self.disk.start / granules.size();
        for wrong in checked.wrong {
            let numbers = wrong.start / granules.size()..wrong.end.div_ceil(granules.size());
            values[(numbers.start - first) as usize..(numbers.end - first) as usize].fill(Value::Unknown);
        }
        Ok(values)
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
    fn encode(&mut self, disk: Range<u64>, encoding: Encoding) -> Result<(), ConvertError> {
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
                encoded.data(disk.start + data.start as u64, &window[data.clone()], encoding)?;
                encoded.zero(disk.start + start as u64..disk.start + (start + block.len()) as u64);
                data = start + block.len()..start + block.len();
            } else {
                data.end = start + block.len();
            }
        }
        encoded.data(disk.start + data.start as u64, &window[data], encoding)?;
        Ok(())
    }
}
