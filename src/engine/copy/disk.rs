//! Copies one disk: its stages, each in threads of its own.

use std::thread;

use crossbeam_channel::bounded;

use super::first_error::FirstError;
use super::limits::{CONNECTIONS, QUEUED_PIECES, QUEUED_READS};
use super::meter::Meter;
use super::piece::{ReadOp, ToWriter};
use super::pulse::Pulse;
use super::shared::Shared;
use super::sink::Copied;
use super::task::DiskTask;
use super::{reader, scout, writer};
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::watch::Watch;
use vmreport::Stages;

/// A stage that panics must not leave the others waiting for it for ever.
struct StopOnPanic<'a>(&'a Cancel);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop(StopReason::OtherFailure);
        }
    }
}

/// Copies one disk. Returns when the file is complete and synced, or stopped; `first_error` then knows why.
pub(super) fn copy_disk(
    task: &DiskTask,
    shared: &Shared,
    watch: &dyn Watch,
    pulse: &Pulse,
    first_error: &FirstError,
) -> Option<(Copied, Stages)> {
    let (note, cancel) = (first_error, first_error.cancel());
    let compressors = &shared.compressors;
    let meter = &Meter::begin(compressors.worked());
    let (op_tx, op_rx) = bounded::<ReadOp>(QUEUED_READS);
    let (piece_tx, piece_rx) = bounded::<ToWriter>(QUEUED_PIECES);
    let copied = thread::scope(|scope| {
        let lane = shared.compressors.lane(&task.sink, piece_tx.clone());
        for _ in 0..CONNECTIONS {
            let (ops, lane) = (op_rx.clone(), lane.clone());
            scope.spawn(move || {
                let _ended = StopOnPanic(cancel);
                note.note(reader::read_all(task, &ops, &lane, &meter.reading, cancel))
            });
        }
        drop((op_rx, lane));
        scope.spawn(move || note.note(scout::survey(task, &shared.budget, &op_tx, &piece_tx, watch, cancel)));
        let _ended = StopOnPanic(cancel);
        note.note(writer::write_all(task, &piece_rx, shared, &meter.writing, pulse, watch, cancel))
    });
    let stages = meter.end(compressors.worked(), compressors.threads());
    copied.map(|copied| (copied, stages))
}
