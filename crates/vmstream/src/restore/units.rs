//! The block map grouped by piece, so that each piece is read and decoded once, by any thread.

use super::map::{BlockMap, Layer, MapError, Source};
use crate::stream::Piece;
use std::collections::VecDeque;
use std::ops::Range;

/// One piece and the parts of it that newer streams do not hide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Number of the layer, 0 is the oldest.
    pub layer: usize,
    /// What to read.
    pub piece: Piece,
    /// Ranges of the disk to take from it: in order, not empty, inside the piece.
    pub visible: Vec<Range<u64>>,
    /// Bytes of the layer's file from the end of the unit before it to its own: headers, and what nobody sees.
    pub(super) file: Range<u64>,
}

/// What one step of putting a disk together does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Decode a piece and take parts of it.
    Unit(Unit),
    /// No stream has anything there.
    Zero(Range<u64>),
    /// The rest of a layer's file, which no unit needs.
    Tail { layer: usize, file: Range<u64> },
}

/// Iterator over the units of a disk. Holds at most one unfinished unit per layer.
///
/// Units write disjoint ranges, so their order means nothing.
#[derive(Debug)]
pub struct Units<'a> {
    map: BlockMap<'a>,
    open: Vec<Option<Unit>>,
    /// Up to where each layer's file was given out.
    files_at: Vec<u64>,
    ready: VecDeque<Work>,
    done: bool,
}

impl<'a> Units<'a> {
    /// Units of the disk made of these layers, oldest first.
    pub fn new(layers: &'a [Layer]) -> Self {
        Self {
            map: BlockMap::new(layers),
            open: layers.iter().map(|_| None).collect(),
            files_at: vec![0; layers.len()],
            ready: VecDeque::new(),
            done: false,
        }
    }

    /// How far the sweep over the disk has come, of [`Units::size`].
    pub fn at(&self) -> u64 {
        self.map.at()
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.map.size()
    }

    /// Adds a range to its piece's unit; a unit of another piece of that layer is complete then.
    fn add(&mut self, layer: usize, piece: Piece, range: Range<u64>) {
        let open = &mut self.open[layer];
        if let Some(unit) = open.as_mut().filter(|unit| unit.piece == piece) {
            match unit.visible.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => unit.visible.push(range),
            }
            return;
        }
        // Pieces come in the order of the file.
        let end = piece.stored_at + piece.stored_len;
        let file = std::mem::replace(&mut self.files_at[layer], end)..end;
        self.ready.extend(open.replace(Unit { layer, piece, visible: vec![range], file }).map(Work::Unit));
    }

    /// The next unit, or the next range that no stream has.
    pub(super) fn next_work(&mut self) -> Option<Result<Work, MapError>> {
        loop {
            if let Some(work) = self.ready.pop_front() {
                return Some(Ok(work));
            }
            if self.done {
                return None;
            }
            match self.map.next() {
                Some(Ok(segment)) => match segment.source {
                    Source::Piece { layer, piece } => self.add(layer, piece, segment.disk),
                    Source::Zero => return Some(Ok(Work::Zero(segment.disk))),
                },
                Some(Err(error)) => {
                    self.done = true;
                    return Some(Err(error));
                }
                None => {
                    self.done = true;
                    self.ready.extend(self.open.iter_mut().filter_map(Option::take).map(Work::Unit));
                    let ends = self.map.layers().iter().map(|layer| layer.stream.file_len());
                    let rest = self.files_at.iter().copied().zip(ends).enumerate();
                    self.ready.extend(rest.map(|(layer, (at, end))| Work::Tail { layer, file: at..end }));
                }
            }
        }
    }
}

impl Iterator for Units<'_> {
    type Item = Result<Unit, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_work()? {
                Ok(Work::Unit(unit)) => return Some(Ok(unit)),
                Ok(Work::Zero(_) | Work::Tail { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
