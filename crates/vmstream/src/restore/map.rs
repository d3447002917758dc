//! The block map of a disk at a point: for each byte, the newest stream that has it, or zero.
//!
//! Streams are in disk order, so one sweep over all of them at once gives the map in disk order, holding one frame
//! per stream and nothing else. Headers only: no payload is read.

use crate::sidecar::{Blocks, Sidecar};
use crate::stream::{Frame, FrameKind, Frames, Piece, Problem, StreamError, StreamFile};
use std::ops::Range;
use std::path::PathBuf;

/// One stream of a chain, open.
#[derive(Debug)]
pub struct Layer {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// The stream.
    pub stream: StreamFile,
    /// What knows its blocks.
    sidecar: Option<Sidecar>,
}

/// A stream of the chain could not be read as far as the map needs it.
#[derive(Debug, thiserror::Error)]
#[error("Stream {} cannot be used", path.display())]
pub struct MapError {
    /// The stream.
    pub path: PathBuf,
    /// Why.
    pub source: StreamError,
}

/// Where the bytes of a segment come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// No stream has data there.
    Zero,
    /// A piece of a stream. It may hold more than the segment.
    Piece {
        /// Number of the layer, 0 is the oldest.
        layer: usize,
        /// The piece.
        piece: Piece,
    },
}

/// A range of the disk with one source. Neighbours may have the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The range. Never empty.
    pub disk: Range<u64>,
    /// Its source.
    pub source: Source,
}

impl Layer {
    /// Opens a stream.
    ///
    /// # Errors
    /// [`MapError`] naming it.
    pub fn open(path: PathBuf) -> Result<Self, MapError> {
        match StreamFile::open(&path) {
            Ok(stream) => Ok(Self { path, stream, sidecar: None }),
            Err(source) => Err(MapError { path, source }),
        }
    }

    /// Holds what is read of it against the blocks of its sidecar, which was checked.
    pub(crate) fn checked_by(self, sidecar: Option<Sidecar>) -> Self {
        Self { sidecar, ..self }
    }

    /// Keeps the place of a disk that did not exist; says nothing about sizes.
    pub(crate) fn is_placeholder(&self) -> bool {
        self.stream.is_placeholder()
    }
}

/// Iterator over the segments of a disk, in order and without gaps, from 0 to its size.
///
/// - A data frame hides what older streams have there.
/// - A zero frame of a stream that stands alone (`incremental` false) does so too; in an increment it means nothing.
/// - A disk that shrank has lost what lay behind its end, also when it grew again.
///
/// After the last segment every stream was walked to its end, so a map that comes without error proves their form.
#[derive(Debug)]
pub struct BlockMap<'a> {
    layers: &'a [Layer],
    sweep: Sweep<Cursor<'a>>,
}

impl<'a> BlockMap<'a> {
    /// A map over layers, oldest first.
    pub fn new(layers: &'a [Layer]) -> Self {
        let size = disk_size(layers);
        let cursors =
            layers.iter().zip(limits(layers)).map(|(layer, limit)| Cursor::new(layer, limit)).collect();
        Self { layers, sweep: Sweep::new(cursors, 0..size) }
    }

    /// Bytes of the disk: what its newest stream says.
    pub fn size(&self) -> u64 {
        self.sweep.end
    }

    /// The layers, oldest first.
    pub(super) fn layers(&self) -> &'a [Layer] {
        self.layers
    }

    /// How far the sweep has come.
    pub fn at(&self) -> u64 {
        self.sweep.at
    }
}

impl Iterator for BlockMap<'_> {
    type Item = Result<Segment, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.sweep.next()
    }
}

/// What one layer has, in disk order.
pub(crate) trait Spans {
    /// The first span that ends behind `at`, which never falls; `None` when there is no more.
    fn seek(&mut self, at: u64) -> Result<Option<&Span>, MapError>;

    /// Goes through what was not needed, so that damage there is not passed over.
    fn finish(&mut self) -> Result<(), MapError> {
        Ok(())
    }
}

/// The one rule of which layer supplies what, over layers in whatever way their spans are found: see [`BlockMap`].
#[derive(Debug)]
pub(crate) struct Sweep<S> {
    /// Of the layers, oldest first.
    spans: Vec<S>,
    at: u64,
    end: u64,
    done: bool,
}

impl<S: Spans> Sweep<S> {
    /// A sweep over a range of the disk.
    pub(crate) fn new(spans: Vec<S>, disk: Range<u64>) -> Self {
        Self { spans, at: disk.start, end: disk.end, done: false }
    }

    fn step(&mut self) -> Result<Segment, MapError> {
        let at = self.at;
        let mut end = self.end;
        for number in (0..self.spans.len()).rev() {
            let Some(span) = self.spans[number].seek(at)? else { continue };
            if span.disk.start > at {
                end = end.min(span.disk.start);
                continue;
            }
            let end = end.min(span.disk.end);
            let source = match &span.piece {
                Some(piece) => Source::Piece { layer: number, piece: piece.clone() },
                None => Source::Zero,
            };
            return Ok(Segment { disk: at..end, source });
        }
        Ok(Segment { disk: at..end, source: Source::Zero })
    }
}

/// Bytes of a disk made of these layers.
pub(crate) fn disk_size(layers: &[Layer]) -> u64 {
    let newest = layers.iter().rev().find(|layer| !layer.is_placeholder());
    newest.map_or(0, |layer| layer.stream.meta().virtual_size)
}

/// Up to where the bytes of each layer count: what lay behind the end of a disk that shrank later is gone.
pub(crate) fn limits(layers: &[Layer]) -> Vec<u64> {
    let mut limit = u64::MAX;
    let mut limits: Vec<u64> = layers
        .iter()
        .rev()
        .map(|layer| {
            if !layer.is_placeholder() {
                limit = limit.min(layer.stream.meta().virtual_size);
            }
            limit
        })
        .collect();
    limits.reverse();
    limits
}

impl<S: Spans> Iterator for Sweep<S> {
    type Item = Result<Segment, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.at >= self.end {
            self.done = true;
            return self.spans.iter_mut().try_for_each(S::finish).err().map(Err);
        }
        let step = self.step();
        match &step {
            Ok(segment) => self.at = segment.disk.end,
            Err(_) => self.done = true,
        }
        Some(step)
    }
}

/// A range that one layer decides: a piece of data, or zeros.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) disk: Range<u64>,
    pub(crate) piece: Option<Piece>,
}

/// One layer, walked frame by frame.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    layer: &'a Layer,
    frames: Frames<'a>,
    zeros_count: bool,
    limit: u64,
    /// Those of the pieces that follow.
    blocks: Option<Blocks<'a>>,
    /// The data frame being cut into pieces: number and file offset of the next one.
    frame: Option<(Frame, u64, u64)>,
    span: Option<Span>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(layer: &'a Layer, limit: u64) -> Self {
        let zeros_count = !layer.stream.meta().incremental;
        let blocks = layer.sidecar.as_ref().map(Sidecar::blocks);
        Self { layer, frames: layer.stream.frames(), zeros_count, limit, blocks, frame: None, span: None }
    }

    pub(crate) fn next_span(&mut self) -> Result<Option<Span>, MapError> {
        self.step().map_err(|source| MapError { path: self.layer.path.clone(), source })
    }

    fn step(&mut self) -> Result<Option<Span>, StreamError> {
        loop {
            if let Some((frame, number, stored_at)) = &mut self.frame {
                if *number < frame.piece_count() {
                    let mut piece = frame.piece(*number, *stored_at);
                    piece.plain_crc32 = sum_of(&mut self.blocks, &piece)?;
                    *number += 1;
                    *stored_at += piece.stored_len;
                    match self.cut(piece.disk.clone()) {
                        Some(disk) => return Ok(Some(Span { disk, piece: Some(piece) })),
                        None => continue,
                    }
                }
                self.frame = None;
            }
            let Some(frame) = self.frames.next().transpose()? else { return Ok(None) };
            if frame.header.kind == FrameKind::Data {
                let stored_at = frame.stored_at;
                self.frame = Some((frame, 0, stored_at));
            } else if self.zeros_count {
                if let Some(disk) = self.cut(frame.disk()) {
                    return Ok(Some(Span { disk, piece: None }));
                }
            }
        }
    }

    fn cut(&self, disk: Range<u64>) -> Option<Range<u64>> {
        let end = disk.end.min(self.limit);
        (disk.start < end).then_some(disk.start..end)
    }
}

impl Spans for Cursor<'_> {
    fn seek(&mut self, at: u64) -> Result<Option<&Span>, MapError> {
        // The first span is fetched by the first seek: until then there is a frame walk that has not begun.
        while self.span.as_ref().is_none_or(|span| span.disk.end <= at) {
            self.span = self.next_span()?;
            if self.span.is_none() {
                break;
            }
        }
        Ok(self.span.as_ref())
    }

    fn finish(&mut self) -> Result<(), MapError> {
        self.frame = None;
        let walked = self.frames.try_for_each(|frame| frame.map(|_| ()));
        walked.map_err(|source| MapError { path: self.layer.path.clone(), source })
    }
}

/// What the sidecar says of the content of the next piece. A stream has a block for every piece, so another block or none says
/// that the frames are not those that were written.
pub(crate) fn sum_of(blocks: &mut Option<Blocks<'_>>, piece: &Piece) -> Result<Option<u32>, StreamError> {
    match blocks.as_mut().map(Iterator::next) {
        None => Ok(None),
        // It could be read before: the sidecar is what is wrong.
        Some(Some(Err(_))) => {
            *blocks = None;
            Ok(None)
        }
        Some(Some(Ok(block))) if block.is_of(piece) => Ok(Some(block.plain_crc32)),
        Some(_) => Err(piece.damaged(Problem::OtherContent)),
    }
}
