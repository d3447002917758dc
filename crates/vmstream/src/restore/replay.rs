//! A chain replayed once for all its points: in each window of the disk, stream after stream is applied, and after
//! each point's last stream somebody looks at the bytes.
//!
//! Memory: a window per buffer, whatever the chain's length. Each piece is decoded once per window it lies in.

use super::map::{Cursor, Layer, MapError, Span};
use super::ordered;
use super::state::{Leaves, State, Zeros};
use super::window::WINDOW_LEN;
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

impl Replay<'_> {
    /// Calls `see` with each stop's number, a range of the disk and its leaves, in disk order, all stops for each range.
    ///
    /// # Errors
    /// [`MapError`] at the first stream that cannot be read.
    pub(crate) fn run(
        &self,
        workers: NonZeroUsize,
        read: impl Fn(u64) + Sync,
        mut see: impl FnMut(usize, &Range<u64>, &Leaves),
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
    ) -> Result<Vec<Leaves>, MapError> {
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
                    room.side.copy(&room.state);
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
    leaves: Vec<Leaves>,
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
struct Walk<'a> {
    cursor: Cursor<'a>,
    next: Option<Span>,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// From the first frame on, all of it.
    fn new(layer: &'a Layer) -> Self {
        Self { cursor: Cursor::new(layer, u64::MAX), next: None, ended: false }
    }

    /// The spans that begin before `end`, whole. One that goes on behind it comes again.
    fn upto(&mut self, end: u64) -> Result<Vec<Span>, MapError> {
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

impl<'a> Windows<'a> {
    fn new(replay: &Replay<'a>) -> Self {
        let walks = |layers: &'a [Layer]| layers.iter().map(Walk::new).collect();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::leaf::{LOOKED_AT, PART_LEN};
    use super::*;
    use crate::stream::StreamMeta;
    use crate::stream::writer::StreamWriter;
    use std::cell::Cell;
    use std::path::Path;
    use std::sync::Arc;

    const SIZE: u64 = 3 * WINDOW_LEN;

    /// A stream that has so many bytes at each of these places.
    fn layer(dir: &Path, number: u32, places: impl Iterator<Item = u64>, len: u64) -> Layer {
        let path = dir.join(number.to_string());
        let meta = StreamMeta {
            virtual_size: SIZE,
            data_size: 0,
            date: String::new(),
            disk_name: "vda".into(),
            disk_format: "raw".into(),
            checkpoint_name: format!("virtnbdbackup.{number}"),
            compression: None,
            parent_checkpoint: number
                .checked_sub(1)
                .map(|n| format!("virtnbdbackup.{n}"))
                .unwrap_or_default(),
            incremental: number > 0,
            stream_version: 2,
        };
        let mut writer = StreamWriter::create(&path, meta).unwrap();
        let content = vec![number as u8 + 1; len as usize];
        places.for_each(|at| writer.data(at, len, &content).unwrap());
        writer.finish().unwrap();
        Layer::open(path).unwrap()
    }

    #[test]
    fn a_small_write_costs_what_it_touched() {
        const POINTS: u32 = 20;
        let dir = tempfile::tempdir().unwrap();
        let full = layer(dir.path(), 0, (0..SIZE).step_by(1 << 20), 1 << 20);
        // One write in each MiB of the first window.
        let places = |number: u64| (0..WINDOW_LEN).step_by(1 << 20).map(move |at| at + 4096 * number);
        let writes = (WINDOW_LEN >> 20) * u64::from(POINTS - 1);
        let mut chain = vec![full];
        chain.extend((1..POINTS).map(|number| layer(dir.path(), number, places(number.into()), 4096)));
        let stops: Vec<_> =
            (1..=chain.len()).map(|applied| Stop { applied, side: None, size: SIZE }).collect();
        let replay = Replay { chain: &chain, side: &[], stops: &stops };
        let (read, zeros, before) = (Cell::new(0), Zeros::new(), LOOKED_AT.get());
        let mut room = Room::default();
        let windows: Vec<_> = Windows::new(&replay)
            .map(|plan| {
                let count = |bytes| read.set(read.get() + bytes);
                replay.window(&plan.unwrap(), &mut room, &zeros, &count).unwrap()
            })
            .collect();
        assert_eq!(read.get(), SIZE + 4096 * writes, "each piece is decoded once");
        assert_eq!(LOOKED_AT.get() - before, SIZE + PART_LEN * writes);
        let same = |window: &[Leaves]| window.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1]));
        assert_eq!(windows.iter().map(|window| same(window)).collect::<Vec<_>>(), [false, true, true]);
    }
}
