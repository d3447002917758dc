//! Asks what a disk holds, window by window, and plans the reads while earlier ones are under way.

use std::time::Duration;

use crossbeam_channel::Sender;
use vmstream::stream::writer::FRAME_LEN;

use super::budget::Budget;
use super::error::CopyError;
use super::extent::{Context, Span, SpanKind, SpanMerger};
use super::piece::{Content, Piece, ReadOp, ToWriter};
use super::task::DiskTask;
use super::tripwire::Tripwire;
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::watch::Watch;
use vmhost::nbd::{BASE_ALLOCATION, Connection, NbdError};

/// A server that needs longer than this for one window's block status hangs.
const STATUS_LIMIT: Duration = Duration::from_secs(120);

/// What a zero range on its way costs of the budget: it has no bytes, but there can be millions of them.
const ZERO_COST: u64 = 4096;

/// Plans the whole disk, in order. Ends early without error when the other stages are gone.
pub(super) fn survey(
    task: &DiskTask,
    budget: &Budget,
    ops: &Sender<ReadOp>,
    pieces: &Sender<ToWriter>,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<(), CopyError> {
    let failed = |source: NbdError| CopyError::Read { target: task.target.clone(), source: Box::new(source) };
    let contexts: Vec<&str> = [BASE_ALLOCATION].into_iter().chain(task.bitmap.as_deref()).collect();
    let mut connection = Connection::open(&task.export, &contexts).map_err(failed)?;
    let size = connection.size();
    watch.disk_begin(&task.target, size);
    let mut merger = SpanMerger::new(size, task.bitmap.is_some());
    let mut tripwire = task.tripwire.as_ref().and_then(|plan| Tripwire::new(&task.target, plan, size));
    let mut planner = Planner { seq: 0, budget, ops, pieces, cancel };
    while let Some(at) = merger.next_question() {
        cancel.check()?;
        let mut merged = Ok(());
        connection
            .block_status(at, size - at, STATUS_LIMIT, &mut |context, offset, extents| {
                let context =
                    if context == BASE_ALLOCATION { Context::Allocation } else { Context::DirtyBitmap };
                let extents: Vec<(u32, u32)> = extents.iter().map(|e| (e.len, e.flags)).collect();
                if merged.is_ok() {
                    merged = merger.reply(context, offset, &extents);
                }
            })
            .map_err(failed)?;
        merged.map_err(|source| CopyError::Extents { target: task.target.clone(), source })?;
        for span in merger.spans() {
            if let Some(tripwire) = &mut tripwire {
                tripwire.pass(span)?;
            }
            planner.plan(span)?;
        }
        let _ = pieces.send(ToWriter::Surveyed);
    }
    if let Some(tripwire) = tripwire {
        tripwire.finish(&mut connection)?;
    }
    // The writer is gone only when it failed, and then it has said why.
    let _ = pieces.send(ToWriter::Total(planner.seq));
    Ok(())
}

struct Planner<'a> {
    seq: u64,
    budget: &'a Budget,
    ops: &'a Sender<ReadOp>,
    pieces: &'a Sender<ToWriter>,
    cancel: &'a Cancel,
}

impl Planner<'_> {
    fn plan(&mut self, span: Span) -> Result<(), StopReason> {
        match span.kind {
            SpanKind::Clean | SpanKind::CleanZero => Ok(()),
            SpanKind::Zero => self.zero(span),
            SpanKind::Read => self.read(span),
        }
    }

    fn zero(&mut self, span: Span) -> Result<(), StopReason> {
        let permit = self.budget.take(ZERO_COST, self.cancel)?;
        let piece =
            Piece { seq: self.seq, start: span.start, content: Content::Zero { len: span.len }, permit };
        self.seq += 1;
        self.pieces.send(ToWriter::Piece(piece)).map_err(|_| StopReason::OtherFailure)
    }

    fn read(&mut self, span: Span) -> Result<(), StopReason> {
        let end = span.start + span.len;
        let mut start = span.start;
        while start < end {
            // Frames end at multiples of their length, so that those of one disk line up from point to point.
            let next = ((start / FRAME_LEN + 1) * FRAME_LEN).min(end);
            let permit = self.budget.take(next - start, self.cancel)?;
            let len = usize::try_from(next - start).unwrap_or(usize::MAX);
            let op = ReadOp { seq: self.seq, start, len, permit };
            self.seq += 1;
            self.ops.send(op).map_err(|_| StopReason::OtherFailure)?;
            start = next;
        }
        Ok(())
    }
}
