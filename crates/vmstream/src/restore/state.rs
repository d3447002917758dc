//! One window of a disk while stream after stream is applied to it: its bytes, and what is known of them. It costs what is
//! written to it, whatever its size.

use super::leaf::{LEAF_LEN, Leaf, PART_LEN, Part};
use super::map::{Layer, MapError, Span};
use super::zeros::is_zero;
use std::ops::Range;
use std::sync::Arc;

/// The leaves of a window: the very same as before where nothing changed.
pub(crate) type Leaves = Arc<[Leaf]>;

/// What is known of zeros.
pub(super) struct Zeros {
    part: Part,
    leaf: Leaf,
}

impl Zeros {
    pub(super) fn new() -> Self {
        let part = Part::of(&vec![0; PART_LEN as usize]);
        Self { part, leaf: Leaf::join((0..LEAF_LEN / PART_LEN).map(|_| part)) }
    }
}

/// A window's bytes, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) disk: Range<u64>,
    bytes: Vec<u8>,
    /// Of each part whether its bytes count: until a stream has written to it it is zero, and its bytes are of another window.
    real: Vec<bool>,
    /// Each part, and each leaf, with the length it was looked at with; `None` once its bytes changed.
    parts: Vec<Option<(u64, Part)>>,
    leaves: Vec<Option<(u64, Leaf)>>,
    /// All of them, for so many bytes.
    all: Option<(u64, Leaves)>,
}

impl State {
    pub(super) fn clear(&mut self, disk: Range<u64>, zeros: &Zeros) {
        let len = disk.end - disk.start;
        let count = |of_len| len.div_ceil(of_len) as usize;
        self.bytes.resize(len as usize, 0);
        self.real.clear();
        self.real.resize(count(PART_LEN), false);
        // What no stream writes to stays zero: nobody looks at it again.
        self.parts.clear();
        self.parts.resize(count(PART_LEN), Some((PART_LEN, zeros.part)));
        self.leaves.clear();
        self.leaves.resize(count(LEAF_LEN), Some((LEAF_LEN, zeros.leaf)));
        (self.disk, self.all) = (disk, None);
    }

    /// Becomes the same as another, keeping its memory.
    pub(super) fn copy(&mut self, other: &Self) {
        self.disk = other.disk.clone();
        self.bytes.resize(other.bytes.len(), 0);
        for number in (0..other.real.len()).filter(|number| other.real[*number]) {
            let place = other.place_of(number);
            self.bytes[place.clone()].copy_from_slice(&other.bytes[place]);
        }
        self.real.clone_from(&other.real);
        self.parts.clone_from(&other.parts);
        self.leaves.clone_from(&other.leaves);
        self.all.clone_from(&other.all);
    }

    pub(super) fn apply(
        &mut self,
        layer: &Layer,
        spans: &[Span],
        stored: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        read: &impl Fn(u64),
    ) -> Result<(), MapError> {
        if !layer.is_placeholder() {
            // A disk that shrank has lost what lay behind its end, also when it grows again.
            self.zero(layer.stream.meta().virtual_size..u64::MAX);
        }
        for span in spans {
            let Some(piece) = &span.piece else {
                self.zero(span.disk.clone());
                continue;
            };
            let failed = |source| MapError { path: layer.path.clone(), source };
            if self.disk.contains(&piece.disk.start) {
                read(piece.stored_len);
            }
            let part = self.cut(&piece.disk);
            let to = self.touch(&part);
            if part == piece.disk {
                layer.stream.read_piece_into(piece, stored, to).map_err(failed)?;
                continue;
            }
            layer.stream.read_piece(piece, stored, plain).map_err(failed)?;
            let from = (part.start - piece.disk.start) as usize..(part.end - piece.disk.start) as usize;
            to.copy_from_slice(&plain[from]);
        }
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) {
        let range = self.cut(&range);
        let numbers = self.numbers(&range, PART_LEN);
        if numbers.clone().any(|number| self.real[number]) {
            self.touch(&range).fill(0);
        }
    }

    /// The bytes of a range that is being written.
    fn touch(&mut self, range: &Range<u64>) -> &mut [u8] {
        let place = (range.start - self.disk.start) as usize..(range.end - self.disk.start) as usize;
        let (parts, leaves) = (self.numbers(range, PART_LEN), self.numbers(range, LEAF_LEN));
        if !parts.is_empty() {
            self.all = None;
        }
        for number in parts.clone() {
            let part = self.place_of(number);
            let is_cut = part.start < place.start || part.end > place.end;
            if !std::mem::replace(&mut self.real[number], true) && is_cut {
                self.bytes[part].fill(0);
            }
        }
        self.parts[parts].fill(None);
        self.leaves[leaves].fill(None);
        &mut self.bytes[place]
    }

    fn cut(&self, range: &Range<u64>) -> Range<u64> {
        range.start.clamp(self.disk.start, self.disk.end)..range.end.clamp(self.disk.start, self.disk.end)
    }

    /// The numbers of the parts of so many bytes that a range touches.
    fn numbers(&self, range: &Range<u64>, of_len: u64) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let (start, end) = (range.start - self.disk.start, range.end - self.disk.start);
        (start / of_len) as usize..end.div_ceil(of_len) as usize
    }

    fn place_of(&self, part: usize) -> Range<usize> {
        let start = part * PART_LEN as usize;
        start..self.bytes.len().min(start + PART_LEN as usize)
    }

    pub(super) fn leaves(&mut self, size: u64, zeros: &Zeros) -> Leaves {
        let end = size.clamp(self.disk.start, self.disk.end) - self.disk.start;
        if let Some((_, leaves)) = self.all.as_ref().filter(|(known, _)| *known == end) {
            return leaves.clone();
        }
        let starts = (0..end).step_by(LEAF_LEN as usize);
        let leaves: Leaves = starts.map(|start| self.leaf(start..end.min(start + LEAF_LEN), zeros)).collect();
        self.all = Some((end, leaves.clone()));
        leaves
    }

    /// The leaf of a range of the window.
    fn leaf(&mut self, range: Range<u64>, zeros: &Zeros) -> Leaf {
        let (number, len) = ((range.start / LEAF_LEN) as usize, range.end - range.start);
        let leaf = match self.leaves[number] {
            Some((known_len, leaf)) if known_len == len => leaf,
            _ => {
                let starts = range.clone().step_by(PART_LEN as usize);
                Leaf::join(starts.map(|start| self.part(start..range.end.min(start + PART_LEN), zeros)))
            }
        };
        self.leaves[number] = Some((len, leaf));
        leaf
    }

    fn part(&mut self, range: Range<u64>, zeros: &Zeros) -> Part {
        let (number, len) = ((range.start / PART_LEN) as usize, range.end - range.start);
        let part = match self.parts[number] {
            Some((known_len, part)) if known_len == len => part,
            _ => {
                let bytes = &self.bytes[range.start as usize..range.end as usize];
                let blank = !self.real[number] || is_zero(bytes);
                match blank {
                    true if len == PART_LEN => zeros.part,
                    true => Part::of(&vec![0; len as usize]),
                    false => Part::of(bytes),
                }
            }
        };
        self.parts[number] = Some((len, part));
        part
    }
}
