//! Puts the pieces of a disk back in order and writes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::meter::Busy;
use super::sink::{Copied, Sink};
use super::{Content, CopyError, DiskTask, Piece, Shared, ToWriter};
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::watch::Watch;

/// How often to look for a stop while nothing arrives.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Writes until every planned piece is in the file, then ends and syncs it.
pub(super) fn write_all(
    task: &DiskTask,
    arriving: &Receiver<ToWriter>,
    shared: &Shared,
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
            Err(RecvTimeoutError::Timeout) if last_progress.elapsed() < shared.stall_limit => continue,
            Err(RecvTimeoutError::Timeout) => {
                let (target, seconds) = (task.target.clone(), shared.stall_limit.as_secs());
                return Err(CopyError::Stalled { target, seconds });
            }
            // The other stages ended without a total: one of them failed.
            Err(RecvTimeoutError::Disconnected) => return Err(StopReason::OtherFailure.into()),
        }
        while let Some(piece) = waiting.remove(&next) {
            busy.during(|| {
                shared.rate.take(piece.stored_len(), cancel)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::budget::Budget;
    use crate::engine::copy::{Compressors, Method, SidecarPlan, SinkPlan};
    use crate::engine::rate::Rate;
    use crate::engine::watch::Unwatched;
    use crate::nbd::Export;

    #[test]
    fn a_copy_that_stands_still_is_given_up_when_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let sidecar =
            SidecarPlan { file: "vda.img.idx".into(), path: path("idx"), parent: None, parent_digest: None };
        let task = DiskTask {
            target: "vda".into(),
            file: "vda.img".into(),
            export: Export { socket: path("none"), name: String::new() },
            bitmap: None,
            sink: SinkPlan::RawImage { path: path("img"), size: 1 << 20 },
            sidecar,
            earlier_streams: vec![],
        };
        let shared = Shared {
            compressors: Arc::new(Compressors::start(1, Method::Plain)),
            budget: Budget::new(1 << 20),
            rate: Arc::new(Rate::new(0)),
            stall_limit: Duration::from_secs(1),
        };
        let (_silent, arriving) = crossbeam_channel::bounded(1);
        let began = Instant::now();
        let done = write_all(&task, &arriving, &shared, &Busy::default(), &Unwatched, &Cancel::default());
        assert!(matches!(done, Err(CopyError::Stalled { seconds: 1, .. })), "{done:?}");
        assert!(began.elapsed() >= shared.stall_limit);
    }
}
