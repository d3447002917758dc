//! Block status replies → what to do with each range of a disk.
//!
//! Lives here: joining the replies of several contexts, which may stop at different offsets, into one sequence of
//! spans that covers the disk without gap or overlap. Must not live here: asking (`scout`), reading (`pipeline`).
//!
//! Source: NBD protocol, "Block status": replies may be short and may differ in length from context to context;
//! the last extent may pass the request. `base:allocation` bit 1 is ZERO, bit 0 is HOLE: a hole without ZERO has
//! undefined content and is read. `qemu:dirty-bitmap:*` bit 0 is dirty (QEMU docs/interop/nbd.rst).

use std::collections::VecDeque;

use vmhost::nbd::{DIRTY, ZERO};

/// The meta contexts a disk is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// `base:allocation`
    Allocation,
    /// `qemu:dirty-bitmap:…`
    DirtyBitmap,
}

/// What a backup does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Read it: data (or a hole that does not promise zeroes).
    Read,
    /// It reads as zeroes, no need to ask for them.
    Zero,
    /// Unchanged since the parent checkpoint, with data.
    Clean,
    /// Unchanged since the parent checkpoint, and reads as zeroes.
    CleanZero,
}

/// A non-empty range of a disk, all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte on the disk.
    pub start: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// What to do with it.
    pub kind: SpanKind,
}

/// A server answered something that cannot be a block status of this disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// A reply that does not move its context forward would be asked for again for ever.
    #[error("block status of context {context:?} made no progress at offset {at}")]
    NoProgress {
        context: Context,
        /// Offset that was asked for.
        at: u64,
    },
    /// A reply that starts behind what is known leaves a gap.
    #[error("block status of context {context:?} starts at {at}, {known} was expected")]
    Gap {
        context: Context,
        /// Where the reply starts.
        at: u64,
        /// Where it should have started, at the latest.
        known: u64,
    },
}

/// What one context has answered beyond the last span given out.
struct Cursor {
    context: Context,
    /// `(end, flags)`, ends strictly rising.
    extents: VecDeque<(u64, u32)>,
    covered_to: u64,
}

/// Joins the replies of all contexts of one disk.
pub struct SpanMerger {
    size: u64,
    given_to: u64,
    cursors: Vec<Cursor>,
}

impl SpanMerger {
    /// For a disk of `size` bytes; with `incremental`, dirty ranges only.
    pub fn new(size: u64, incremental: bool) -> Self {
        let cursor = |context| Cursor { context, extents: VecDeque::new(), covered_to: 0 };
        let mut cursors = vec![cursor(Context::Allocation)];
        if incremental {
            cursors.push(cursor(Context::DirtyBitmap));
        }
        Self { size, given_to: 0, cursors }
    }

    /// The offset to ask about next: where the slowest context stands. `None` when all cover the whole disk.
    pub fn next_question(&self) -> Option<u64> {
        let slowest = self.cursors.iter().map(|c| c.covered_to).min().unwrap_or(self.size);
        (slowest < self.size).then_some(slowest)
    }

    /// Takes one context's reply: `(length, flags)` from `offset` on.
    pub fn reply(
        &mut self,
        context: Context,
        offset: u64,
        extents: &[(u32, u32)],
    ) -> Result<(), ExtentError> {
        let size = self.size;
        let Some(cursor) = self.cursors.iter_mut().find(|c| c.context == context) else {
            return Ok(());
        };
        if offset > cursor.covered_to {
            return Err(ExtentError::Gap { context, at: offset, known: cursor.covered_to });
        }
        let mut end = offset;
        for &(len, flags) in extents {
            end = end.saturating_add(u64::from(len)).min(size);
            // A context that is ahead of the slowest one is answered again from there; what is known stays.
            if end > cursor.covered_to {
                cursor.covered_to = end;
                cursor.extents.push_back((end, flags));
            }
        }
        if end <= offset {
            return Err(ExtentError::NoProgress { context, at: offset });
        }
        Ok(())
    }

    /// The spans that every context covers by now, in order, neighbours of one kind joined.
    pub fn spans(&mut self) -> Vec<Span> {
        let ready_to = self.cursors.iter().map(|c| c.covered_to).min().unwrap_or(0);
        let mut spans: Vec<Span> = Vec::new();
        while self.given_to < ready_to {
            let heads = self.cursors.iter().filter_map(|c| c.extents.front().map(|&(end, _)| end));
            let end = heads.min().unwrap_or(ready_to);
            let kind = self.kind_here();
            match spans.last_mut() {
                Some(last) if last.kind == kind => last.len += end - self.given_to,
                _ => spans.push(Span { start: self.given_to, len: end - self.given_to, kind }),
            }
            self.given_to = end;
            for cursor in &mut self.cursors {
                if cursor.extents.front().is_some_and(|&(to, _)| to <= end) {
                    cursor.extents.pop_front();
                }
            }
        }
        spans
    }

    fn kind_here(&self) -> SpanKind {
        let flags = |context| {
            self.cursors.iter().find(|c| c.context == context)?.extents.front().map(|&(_, flags)| flags)
        };
        let is_clean = flags(Context::DirtyBitmap).is_some_and(|f| f & DIRTY == 0);
        let is_zero = flags(Context::Allocation).is_some_and(|f| f & ZERO != 0);
        match (is_clean, is_zero) {
            (true, true) => SpanKind::CleanZero,
            (true, false) => SpanKind::Clean,
            (false, true) => SpanKind::Zero,
            (false, false) => SpanKind::Read,
        }
    }
}

#[cfg(test)]
mod tests {
    use random::Random;

    use super::*;

    fn span(start: u64, len: u64, kind: SpanKind) -> Span {
        Span { start, len, kind }
    }

    #[test]
    fn a_hole_without_zero_is_read() {
        let mut merger = SpanMerger::new(40, false);
        merger.reply(Context::Allocation, 0, &[(10, 0), (10, 1), (10, 3), (10, 2)]).unwrap();
        assert_eq!(merger.spans(), [span(0, 20, SpanKind::Read), span(20, 20, SpanKind::Zero)]);
        assert_eq!(merger.next_question(), None);
    }

    #[test]
    fn a_reply_past_the_end_is_cut() {
        let mut merger = SpanMerger::new(15, false);
        merger.reply(Context::Allocation, 0, &[(10, 0), (100, 3)]).unwrap();
        assert_eq!(merger.spans(), [span(0, 10, SpanKind::Read), span(10, 5, SpanKind::Zero)]);
    }

    #[test]
    fn useless_replies_are_errors() {
        let mut merger = SpanMerger::new(100, true);
        let no_progress = |context, at| Err(ExtentError::NoProgress { context, at });
        assert_eq!(merger.reply(Context::Allocation, 0, &[]), no_progress(Context::Allocation, 0));
        assert_eq!(merger.reply(Context::Allocation, 0, &[(0, 0)]), no_progress(Context::Allocation, 0));
        let gap = ExtentError::Gap { context: Context::DirtyBitmap, at: 5, known: 0 };
        assert_eq!(merger.reply(Context::DirtyBitmap, 5, &[(5, 1)]), Err(gap));
    }

    /// Random disks and servers that stop wherever they like, against a byte-by-byte model.
    #[test]
    fn spans_equal_the_byte_model_however_replies_are_cut() {
        for seed in 1..500_u64 {
            let mut random = Random::from_seed(seed);
            let size = 1 + random.below(300);
            let flags: Vec<(u32, u32)> = (0..size)
                .scan((0, 0), |f, _| {
                    if random.below(4) == 0 {
                        f.0 = random.below(4) as u32;
                    }
                    if random.below(4) == 0 {
                        f.1 = random.below(2) as u32;
                    }
                    Some(*f)
                })
                .collect();
            let incremental = random.below(2) == 1;
            let mut merger = SpanMerger::new(size, incremental);
            let mut got = Vec::new();
            while let Some(at) = merger.next_question() {
                for context in [Context::Allocation, Context::DirtyBitmap] {
                    let cut = 1 + random.below(40);
                    let of = |i: u64| {
                        let f = flags[i as usize];
                        if context == Context::Allocation { f.0 } else { f.1 }
                    };
                    let reply: Vec<_> = (at..size.min(at + cut)).map(|i| (1, of(i))).collect();
                    merger.reply(context, at, &reply).unwrap();
                }
                got.extend(merger.spans());
            }
            let kind = |&(allocation, bitmap): &(u32, u32)| match (
                incremental && bitmap == 0,
                allocation & 2 != 0,
            ) {
                (true, true) => SpanKind::CleanZero,
                (true, false) => SpanKind::Clean,
                (false, true) => SpanKind::Zero,
                (false, false) => SpanKind::Read,
            };
            let want: Vec<_> = flags.iter().map(kind).collect();
            let bytes: Vec<_> = got.iter().flat_map(|s| (0..s.len).map(|_| s.kind)).collect();
            assert_eq!(bytes, want, "seed {seed}");
            let mut at = 0;
            for s in &got {
                assert_eq!(s.start, at, "seed {seed}");
                at += s.len;
            }
        }
    }
}
