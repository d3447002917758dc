//! A disk made of layers, window by window: what each is made of, in order, and its bytes, by any thread.

use super::map::{BlockMap, Layer, MapError, Segment, Source};
use super::summed::{Summed, stored_of};
use crate::sidecar::{Checked, Granules, PartSums, Value};
use crate::stream::running::RunningSum;
use crate::stream::{Piece, StreamError};
use std::ops::Range;

/// Bytes of the disk put together at once. A piece of the largest kind lies in two windows at most.
pub(crate) const WINDOW_LEN: u64 = 32 << 20;

/// One window, as it is being put together.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) disk: Range<u64>,
    /// Its bytes; empty when all of them are zero because no stream has any.
    pub(crate) bytes: Vec<u8>,
    /// Of each MiB of it, when they are wanted.
    sums: Vec<PartSums>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Window {
    /// Fills it by its plan, decoding each piece once for all its segments, and sums the files where that is wanted. `read`
    /// hears the bytes that were read for a sum.
    pub(crate) fn fill(
        &mut self,
        layers: &[Layer],
        plan: &WindowPlan,
        summed: &Summed,
        read: &dyn Fn(u64),
    ) -> Result<(), MapError> {
        self.begin(plan.disk.clone(), plan.segments.is_empty());
        if !self.is_blank() {
            for gap in &plan.gaps {
                let place = self.place(gap);
                self.bytes[place].fill(0);
            }
        }
        for (number, file) in &plan.files {
            let layer = &layers[*number];
            let mut sum = summed.begin(*number, layer, file.start);
            self.fill_from(layer, plan.segments_of(*number), &mut sum, read)
                .map_err(|source| MapError { path: layer.path.clone(), source })?;
            summed.end((*number, layer), file.clone(), sum, read)?;
        }
        Ok(())
    }

    /// Takes the place of a window. Its bytes, if it is not blank, are those of any other until all of them are written.
    pub(crate) fn begin(&mut self, disk: Range<u64>, is_blank: bool) {
        let len = if is_blank { 0 } else { (disk.end - disk.start) as usize };
        self.bytes.resize(len, 0);
        self.disk = disk;
    }

    fn place(&self, disk: &Range<u64>) -> Range<usize> {
        (disk.start - self.disk.start) as usize..(disk.end - self.disk.start) as usize
    }

    fn fill_from(
        &mut self,
        layer: &Layer,
        segments: &[PlanSegment],
        sum: &mut Option<RunningSum<'_>>,
        read: &dyn Fn(u64),
    ) -> Result<(), StreamError> {
        let mut last = None;
        for (_, piece, disk) in segments {
            let to = self.place(disk);
            // All of it is wanted: it needs no place of its own.
            let whole = *disk == piece.disk;
            if whole {
                layer.stream.read_piece_into(piece, &mut self.stored, &mut self.bytes[to.clone()])?;
            } else if last != Some(piece.stored_at) {
                layer.stream.read_piece(piece, &mut self.stored, &mut self.plain)?;
            }
            // One that goes on from the window before was summed there.
            if let Some(sum) = sum.as_mut().filter(|sum| sum.at() <= piece.stored_at) {
                let plain = if whole { &self.bytes[to.clone()] } else { &self.plain };
                sum.take(piece, stored_of(piece, &self.stored, plain), read)?;
            }
            if !whole {
                let from = (disk.start - piece.disk.start) as usize..(disk.end - piece.disk.start) as usize;
                self.bytes[to].copy_from_slice(&self.plain[from]);
            }
            last = Some(piece.stored_at);
        }
        Ok(())
    }

    /// Sums it, for [`Window::check`].
    pub(crate) fn sum(&mut self) {
        self.sums.clear();
        match &self.bytes[..] {
            // The sums of zeros are zeros.
            [] => self.sums.resize(
                (self.disk.end - self.disk.start).div_ceil(PartSums::LEN) as usize,
                PartSums::default(),
            ),
            bytes => self.sums.extend(bytes.chunks(PartSums::LEN as usize).map(PartSums::of)),
        }
    }

    /// Holds it, once it is summed, against what is known of it.
    pub(crate) fn check(&self, known: &(Granules, Vec<Value>)) -> Checked {
        let mut checked = Checked::default();
        checked.add_sums(known, self.disk.start, |at| self.sums.get(at));
        checked
    }

    /// True when no stream has any of it.
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What a window is made of, by piece.
#[derive(Debug)]
pub(crate) struct WindowPlan {
    pub(super) disk: Range<u64>,
    /// By layer, in the order of its file.
    segments: Vec<PlanSegment>,
    /// What no stream has, or has as zeros.
    gaps: Vec<Range<u64>>,
    /// Of each layer, what of its file belongs to this window: all of it, in order, without gaps.
    files: Vec<(usize, Range<u64>)>,
}

/// A layer, a piece of it, and the range of the disk to take from there.
type PlanSegment = (usize, Piece, Range<u64>);

impl WindowPlan {
    fn segments_of(&self, layer: usize) -> &[PlanSegment] {
        let from = self.segments.partition_point(|(other, ..)| *other < layer);
        let to = self.segments.partition_point(|(other, ..)| *other <= layer);
        &self.segments[from..to]
    }
}

/// The windows of a disk, in order. A disk of no bytes has one, so that its streams are walked all the same.
pub(crate) struct Windows<'a> {
    /// Up to where each layer's file was given out, and where it ends.
    files: Vec<Range<u64>>,
    map: BlockMap<'a>,
    /// A segment that goes on in the next window.
    rest: Option<Segment>,
    at: u64,
    done: bool,
}

impl<'a> Windows<'a> {
    /// Those of the disk that layers make up, oldest first.
    pub(crate) fn new(layers: &'a [Layer]) -> Self {
        let files = layers.iter().map(|layer| 0..layer.stream.file_len()).collect();
        Self { files, map: BlockMap::new(layers), rest: None, at: 0, done: false }
    }

    fn plan(&mut self) -> Result<WindowPlan, MapError> {
        let size = self.map.size();
        let end = size.min(self.at.saturating_add(WINDOW_LEN));
        let mut plan =
            WindowPlan { disk: self.at..end, segments: Vec::new(), gaps: Vec::new(), files: Vec::new() };
        self.at = end;
        while let Some(segment) = self.rest.take().map(Ok).or_else(|| self.map.next()).transpose()? {
            let cut = segment.disk.end.min(end);
            if cut > segment.disk.start {
                let disk = segment.disk.start..cut;
                match &segment.source {
                    Source::Piece { layer, piece } => plan.segments.push((*layer, piece.clone(), disk)),
                    Source::Zero => plan.gaps.push(disk),
                }
            }
            if segment.disk.end > end {
                self.rest = Some(Segment { disk: cut..segment.disk.end, ..segment });
                break;
            }
            if segment.disk.end == end && end < size {
                break;
            }
        }
        plan.segments.sort_by_key(|(layer, piece, disk)| (*layer, piece.stored_at, disk.start));
        for (number, file) in self.files.iter_mut().enumerate() {
            let of_layer = plan.segments_of(number);
            let last = of_layer.last().map_or(file.start, |(_, piece, _)| piece.stored_at + piece.stored_len);
            // The last window takes what nobody needed.
            let upto = if end >= size { file.end } else { last.max(file.start) };
            let part = std::mem::replace(&mut file.start, upto)..upto;
            if !part.is_empty() || !of_layer.is_empty() {
                plan.files.push((number, part));
            }
        }
        Ok(plan)
    }
}

impl Iterator for Windows<'_> {
    type Item = Result<WindowPlan, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let plan = self.plan();
        self.done = plan.is_err() || self.at >= self.map.size();
        Some(plan)
    }
}
