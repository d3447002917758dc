//! A chain put together as one new full: each byte from the newest stream that has it, each stream read once.
//!
//! ```text
//! windows of the disk ─► threads read, decode, sum and compress ─► writer, in disk order: proves, appends
//! ```
//! Of what newer streams hide only the checksum is taken. The new sidecar knows what those of the chain knew of the disk at
//! that point, and no more, and nothing where it is in doubt which streams belong there: whether the right streams were put together, nothing else tells.

use super::encode::{Encoded, Encoding, Frame, Tell};
use super::error::ConvertError;
use super::options::ConvertOptions;
use super::source::Source;
use super::written::{Paths, Written};
use crate::chain::CheckpointName;
use crate::restore::claim;
use crate::restore::map::disk_size;
use crate::restore::ordered;
use crate::restore::summed::Summed;
use crate::restore::window::{Window, WindowPlan, Windows};
use crate::restore::zeros::is_zero;
use crate::sidecar::{Granules, Recorder, Run, RunKind, SidecarWriter, Tables, Value};
use crate::stream::StreamMeta;
use crate::stream::writer::{FinishedStream, LEAST_DATA, StreamWriter};
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
    let mut known = Known { source, tables: Tables::new(source.sidecars()), encoding };
    let sums_wanted = known.tables.know_the_last();
    let summed = Summed::all(source.layers.len());
    let windows = Windows::new(&source.layers).map(|plan| Ok(plan?));
    let work = |plan: WindowPlan, room: &mut Room| {
        room.window.fill(&source.layers, &plan, &summed, &|bytes| watch.read(bytes))?;
        if sums_wanted {
            room.window.sum();
        }
        room.encode(encoding)
    };
    let take = |room: &mut Room| {
        full.know(known.of(&room.window)?).map_err(write_failed)?;
        room.encoded.frames().try_for_each(|frame| full.add(frame)).map_err(write_failed)
    };
    ordered::run(options.workers, Room::default, windows, work, take)?;
    let mut last = Encoded::default();
    last.data(size.saturating_sub(LEAST_DATA), &vec![0; LEAST_DATA.min(size) as usize], encoding)?;
    let (stream, sidecar) = full.finish(&last).map_err(write_failed)?;
    Ok(Written { stream, sidecar: Some(sidecar), old: None, sums: summed.found() })
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
    /// Takes what is known of the granules that follow.
    fn know(&mut self, granules: impl Iterator<Item = (u64, Value)>) -> io::Result<()> {
        let mut known = granules.map(|(first, value)| {
            let kind = match value {
                Value::Known(sum) => RunKind::Known(vec![sum]),
                Value::Unknown => RunKind::Unknown(1),
            };
            Run { first, kind }
        });
        known.try_for_each(|run| self.recorder.run(&run))
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

/// What the sidecars of the chain know of the disk at its newest point.
struct Known<'a> {
    source: &'a Source<'a>,
    tables: Tables,
    encoding: Encoding,
}

impl Known<'_> {
    /// The granules of the window that follows, by their numbers. It is held against what is known of it; where it may
    /// differ, what differs is not known.
    fn of(&mut self, window: &Window) -> Result<impl Iterator<Item = (u64, Value)> + use<>, ConvertError> {
        let Encoding { granules, options } = self.encoding;
        let numbers = granules.touched(&window.disk);
        let mut values = vec![Value::Unknown; (numbers.end - numbers.start) as usize];
        let path = || self.source.layers[self.source.layers.len() - 1].path.clone();
        let known = self.tables.last_window(&window.disk);
        let known = known.map_err(|source| ConvertError::Sidecar { stream: path(), source })?;
        if let Some(known) = known.filter(|(of, _)| of.disk_size() == granules.disk_size()) {
            let checked = window.check(&known);
            if let Some(range) = checked.wrong.first().filter(|_| options.check) {
                return Err(ConvertError::OtherContent { path: path(), range: range.clone() });
            }
            if known.0 == granules {
                values = known.1;
            }
            for wrong in checked.wrong {
                let wrong = granules.touched(&wrong);
                values[(wrong.start - numbers.start) as usize..(wrong.end - numbers.start) as usize]
                    .fill(Value::Unknown);
            }
        }
        Ok(numbers.zip(values))
    }
}

/// One thread's room for a window, and what it made of it.
#[derive(Default)]
struct Room {
    window: Window,
    encoded: Encoded,
}

impl Room {
    /// The window as frames: runs of zeros, and what lies between them.
    fn encode(&mut self, encoding: Encoding) -> Result<(), ConvertError> {
        let Self { window: Window { disk, bytes: window, .. }, encoded } = self;
        encoded.clear();
        if window.is_empty() {
            if !disk.is_empty() {
                encoded.zero(disk.clone());
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
