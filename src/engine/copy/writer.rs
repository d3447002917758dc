//! Puts the pieces of a disk back in order and writes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::meter::Busy;
use super::sink::{Copied, Sink};
use super::{Content, CopyError, DiskTask, Piece, ToWriter};
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::rate::Rate;
use crate::engine::watch::Watch;

/// How often to look for a stop while nothing arrives.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Nothing written for so long means that something hangs. The old tool's stall threshold is the same.
const STALL_LIMIT: Duration = Duration::from_secs(180);

/// Writes until every planned piece is in the file, then ends and syncs it.
pub(super) fn write_all(
    task: &DiskTask,
    arriving: &Receiver<ToWriter>,
    rate: &Rate,
    busy: &Busy,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<Copied, CopyError> {
    let mut sink = Sink::create(task)?;
    let mut waiting: BTreeMap<u64, Piece> = BTreeMap::new();
    let (mut next, mut total) = (0, None);
    let mut last_progress = Instant::now();
    while total != Some(next) {
        cancel.check()?;
        match arriving.recv_timeout(CHECK_EVERY) {
            Ok(ToWriter::Piece(piece)) => drop(waiting.insert(piece.seq, piece)),
            Ok(ToWriter::Surveyed) => last_progress = Instant::now(),
            Ok(ToWriter::Total(count)) => total = Some(count),
            Ok(ToWriter::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) if last_progress.elapsed() < STALL_LIMIT => continue,
            Err(RecvTimeoutError::Timeout) => {
                let (target, seconds) = (task.target.clone(), STALL_LIMIT.as_secs());
                return Err(CopyError::Stalled { target, seconds });
            }
            // The other stages ended without a total: one of them failed.
            Err(RecvTimeoutError::Disconnected) => return Err(StopReason::OtherFailure.into()),
        }
        while let Some(piece) = waiting.remove(&next) {
            busy.during(|| {
                rate.take(piece.stored_len(), cancel)?;
                write_one(&mut sink, piece, task, watch)
            })?;
            next += 1;
            last_progress = Instant::now();
        }
    }
    busy.during(|| sink.finish())
}

fn write_one(sink: &mut Sink, piece: Piece, task: &DiskTask, watch: &dyn Watch) -> Result<(), CopyError> {
    let Piece { start, content, permit, .. } = piece;
    match content {
        Content::Data { plain_len, stored, sums } => {
            sink.data(start, plain_len, &stored, &sums)?;
            watch.disk_advance(&task.target, start + plain_len, plain_len);
        }
        Content::Zero { len } => {
            sink.zero(start, len)?;
            watch.disk_advance(&task.target, start + len, 0);
        }
    }
    drop(permit);
    Ok(())
}
