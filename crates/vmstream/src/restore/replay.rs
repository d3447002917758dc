//! A chain replayed once for all its points: in each window of the disk, stream after stream is applied, and after
//! each point's last stream somebody looks at the bytes.
//!
//! Memory: a window per buffer, whatever the chain's length. Each piece is decoded once per window it lies in.

use super::content::WINDOW_LEN;
use super::leaf::{LEAF_LEN, Leaf, PART_LEN, Part};
use super::map::{Cursor, Layer, MapError, Span, Spans};
use super::ordered;
use std::num::NonZeroUsize;
use std::ops::Range;

/// One point of the replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// So many layers of the chain are applied.
    pub(crate) applied: usize,
    /// Then this one of the `side` layers, for this point alone: a difference.
    pub(crate) side: Option<usize>,
    /// Bytes of the disk at that point.
    pub(crate) size: u64,
}

#[derive(Debug)]
pub(crate) struct Replay<'a> {
    /// The chain's streams, oldest first.
    pub(crate) chain: &'a [Layer],
    /// Differences.
    pub(crate) side: &'a [Layer],
    /// The points, by `applied`.
    pub(crate) stops: &'a [Stop],
}

/// The leaves of one window, for each stop.
type Leaves = Vec<Vec<Leaf>>;

impl Replay<'_> {
    /// Calls `see` with each stop's number, a range of the disk and its leaves, in disk order, all stops for each range.
    ///
    /// # Errors
    /// [`MapError`] at the first stream that cannot be read.
    pub(crate) fn run(
        &self,
        workers: NonZeroUsize,
        read: impl Fn(u64) + Sync,
        mut see: impl FnMut(usize, &Range<u64>, &[Leaf]),
    ) -> Result<(), MapError> {
        let zeros = Zeros::new();
        let work = |window: WindowPlan, room: &mut Room| {
            room.leaves = self.window(&window, room, &zeros, &read)?;
            Ok(())
        };
        ordered::run(workers, Room::default, Windows::new(self), work, |room| {
            let Room { state, leaves, .. } = room;
            leaves.iter().enumerate().for_each(|(stop, leaves)| see(stop, &state.disk, leaves));
            Ok(())
        })
    }

    fn window(
        &self,
        plan: &WindowPlan,
        room: &mut Room,
        zeros: &Zeros,
        read: &impl Fn(u64),
    ) -> Result<Leaves, MapError> {
        let Room { state, .. } = room;
        state.clear(plan.disk.clone(), zeros);
        let mut applied = 0;
        let mut all = Vec::with_capacity(self.stops.len());
        for stop in self.stops {
            while applied < stop.applied {
                let (layer, spans) = (&self.chain[applied], &plan.chain[applied]);
                room.state.apply(layer, spans, &mut room.stored, &mut room.plain, read)?;
                applied += 1;
            }
            let state = match stop.side {
                None => &mut room.state,
                Some(side) => {
                    room.side.clone_from(&room.state);
                    let (layer, spans) = (&self.side[side], &plan.side[side]);
                    room.side.apply(layer, spans, &mut room.stored, &mut room.plain, read)?;
                    &mut room.side
                }
            };
            all.push(state.leaves(stop.size, zeros));
        }
        Ok(all)
    }
}

/// One thread's room.
#[derive(Debug, Default)]
struct Room {
    state: State,
    /// The same with a difference on top.
    side: State,
    stored: Vec<u8>,
    plain: Vec<u8>,
    leaves: Leaves,
}

/// What is known of zeros.
struct Zeros {
    part: Part,
    leaf: Leaf,
}

impl Zeros {
    fn new() -> Self {
        let part = Part::of(&vec![0; PART_LEN as usize]);
        Self { part, leaf: Leaf::join((0..LEAF_LEN / PART_LEN).map(|_| part)) }
    }
}

/// A window's bytes, and what is known of them.
#[derive(Debug, Default)]
struct State {
    disk: Range<u64>,
    /// Empty as long as all of it is zero.
    bytes: Vec<u8>,
    /// Each part, and each leaf, with the length it was looked at with; `None` once its bytes changed.
    parts: Vec<Option<(u64, Part)>>,
    leaves: Vec<Option<(u64, Leaf)>>,
}

impl Clone for State {
    fn clone(&self) -> Self {
        let Self { disk, bytes, parts, leaves } = self;
        Self { disk: disk.clone(), bytes: bytes.clone(), parts: parts.clone(), leaves: leaves.clone() }
    }

    /// Keeps the memory.
    fn clone_from(&mut self, other: &Self) {
        self.disk = other.disk.clone();
        self.bytes.clone_from(&other.bytes);
        self.parts.clone_from(&other.parts);
        self.leaves.clone_from(&other.leaves);
    }
}

impl State {
    fn clear(&mut self, disk: Range<u64>, zeros: &Zeros) {
        let count = |of_len| (disk.end - disk.start).div_ceil(of_len) as usize;
        // All of it is zero, and what no stream writes to stays so: nobody looks at it again.
        self.parts.clear();
        self.parts.resize(count(PART_LEN), Some((PART_LEN, zeros.part)));
        self.leaves.clear();
        self.leaves.resize(count(LEAF_LEN), Some((LEAF_LEN, zeros.leaf)));
        self.bytes.clear();
        self.disk = disk;
    }

    fn apply(
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
            self.forget(&part);
            let to = self.place(&part);
            if part == piece.disk {
                layer.stream.read_piece_into(piece, stored, &mut self.fill()[to]).map_err(failed)?;
                continue;
            }
            layer.stream.read_piece(piece, stored, plain).map_err(failed)?;
            let from = (part.start - piece.disk.start) as usize..(part.end - piece.disk.start) as usize;
            self.fill()[to].copy_from_slice(&plain[from]);
        }
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) {
        let part = self.cut(&range);
        if part.is_empty() || self.bytes.is_empty() {
            return;
        }
        self.forget(&part);
        let place = self.place(&part);
        self.bytes[place].fill(0);
    }

    /// The bytes, made real.
    fn fill(&mut self) -> &mut [u8] {
        self.bytes.resize((self.disk.end - self.disk.start) as usize, 0);
        &mut self.bytes
    }

    fn cut(&self, range: &Range<u64>) -> Range<u64> {
        range.start.clamp(self.disk.start, self.disk.end)..range.end.clamp(self.disk.start, self.disk.end)
    }

    fn place(&self, part: &Range<u64>) -> Range<usize> {
        (part.start - self.disk.start) as usize..(part.end - self.disk.start) as usize
    }

    fn forget(&mut self, part: &Range<u64>) {
        if part.is_empty() {
            return;
        }
        let place = self.place(part);
        let all = |of_len: u64| place.start / of_len as usize..place.end.div_ceil(of_len as usize);
        self.parts[all(PART_LEN)].fill(None);
        self.leaves[all(LEAF_LEN)].fill(None);
    }

    fn leaves(&mut self, size: u64, zeros: &Zeros) -> Vec<Leaf> {
        let end = size.clamp(self.disk.start, self.disk.end) - self.disk.start;
        let starts = (0..end).step_by(LEAF_LEN as usize);
        starts.map(|start| self.leaf(start..end.min(start + LEAF_LEN), zeros)).collect()
    }

    /// The leaf of a range of the window.
    fn leaf(&mut self, range: Range<u64>, zeros: &Zeros) -> Leaf {
        let (number, len) = ((range.start / LEAF_LEN) as usize, range.end - range.start);
        let leaf = match self.leaves[number] {
            Some((known_len, leaf)) if known_len == len => leaf,
            _ if self.bytes.is_empty() && len == LEAF_LEN => zeros.leaf,
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
            _ if self.bytes.is_empty() && len == PART_LEN => zeros.part,
            _ if self.bytes.is_empty() => Part::of(&vec![0; len as usize]),
            _ => {
                let bytes = &self.bytes[range.start as usize..range.end as usize];
                let blank = len == PART_LEN && super::zeros::is_zero(bytes);
                if blank { zeros.part } else { Part::of(bytes) }
            }
        };
        self.parts[number] = Some((len, part));
        part
    }
}

/// What every layer has in one window.
#[derive(Debug)]
struct WindowPlan {
    disk: Range<u64>,
    chain: Vec<Vec<Span>>,
    side: Vec<Vec<Span>>,
}

struct Windows<'a> {
    chain: Vec<Walk<'a>>,
    side: Vec<Walk<'a>>,
    size: u64,
    at: u64,
}

/// One layer's walk, and the span that goes on in the next window or begins there.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    cursor: Cursor<'a>,
    next: Option<Span>,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// From the first frame on; nothing of the disk from `limit` on is seen.
    pub(crate) fn new(layer: &'a Layer, limit: u64) -> Self {
        Self { cursor: Cursor::new(layer, limit), next: None, ended: false }
    }

    /// The spans that begin before `end`, whole. One that goes on behind it comes again.
    pub(crate) fn upto(&mut self, end: u64) -> Result<Vec<Span>, MapError> {
        let mut spans = Vec::new();
        while !self.ended {
            let span = match self.next.take() {
                Some(span) => Some(span),
                None => self.cursor.next_span()?,
            };
            let Some(span) = span else {
                self.ended = true;
                break;
            };
            if span.disk.start < end {
                spans.push(span.clone());
            }
            if span.disk.end > end {
                self.next = Some(span);
                break;
            }
        }
        Ok(spans)
    }
}

impl Walk<'_> {
    /// Walks the rest of the stream, so that damage there is not passed over.
    pub(crate) fn drain(&mut self) -> Result<(), MapError> {
        self.ended = true;
        self.cursor.finish()
    }
}

impl<'a> Windows<'a> {
    fn new(replay: &Replay<'a>) -> Self {
        let walks = |layers: &'a [Layer]| layers.iter().map(|layer| Walk::new(layer, u64::MAX)).collect();
        // Streams are walked to their ends, also where no point reaches that far.
        let sizes = replay.chain.iter().chain(replay.side).map(|layer| layer.stream.meta().virtual_size);
        Self { chain: walks(replay.chain), side: walks(replay.side), size: sizes.max().unwrap_or(0), at: 0 }
    }
}

impl Iterator for Windows<'_> {
    type Item = Result<WindowPlan, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.size {
            return None;
        }
        let disk = self.at..self.size.min(self.at.saturating_add(WINDOW_LEN));
        self.at = disk.end;
        let spans = |walks: &mut [Walk<'_>]| -> Result<Vec<_>, MapError> {
            walks.iter_mut().map(|walk| walk.upto(disk.end)).collect()
        };
        let plan = spans(&mut self.chain).and_then(|chain| Ok((chain, spans(&mut self.side)?)));
        if plan.is_err() {
            self.at = u64::MAX;
        }
        Some(plan.map(|(chain, side)| WindowPlan { disk, chain, side }))
    }
}
