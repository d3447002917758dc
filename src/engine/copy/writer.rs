//! Puts the pieces of a disk back in order and writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::error::CopyError;
use super::meter::Busy;
use super::piece::{Content, Piece, ToWriter};
use super::pulse::Pulse;
use super::shared::Shared;
use super::sink::{Copied, Sink};
use super::task::DiskTask;
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
    pulse: &Pulse,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<Copied, CopyError> {
    let mut sink = pulse.writing(|| Sink::create(task))?;
    let mut waiting: BTreeMap<u64, Piece> = BTreeMap::new();
    let (mut next, mut total) = (0, None);
    while total != Some(next) {
        cancel.check()?;
        match arriving.recv_timeout(CHECK_EVERY) {
            Ok(ToWriter::Piece(piece)) => drop(waiting.insert(piece.seq, piece)),
            Ok(ToWriter::Surveyed) => pulse.beat(),
            Ok(ToWriter::Total(count)) => total = Some(count),
            Ok(ToWriter::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => {}
            // The other stages ended without a total: one of them failed.
            Err(RecvTimeoutError::Disconnected) => return Err(StopReason::OtherFailure.into()),
        }
        while let Some(piece) = waiting.remove(&next) {
            busy.during(|| {
                pulse.held_back(|| shared.rate.take(piece.stored_len(), cancel))?;
                pulse.writing(|| write_one(&mut sink, piece, task, watch))
            })?;
            next += 1;
        }
    }
    busy.during(|| pulse.writing(|| sink.finish()))
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
    use std::path::Path;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::engine::copy::budget::Budget;
    use crate::engine::copy::rate::Rate;
    use crate::engine::copy::{Compressors, SidecarPlan, SinkPlan};
    use crate::engine::method::Method;
    use crate::engine::watch::Unwatched;
    use vmhost::nbd::Export;

    const LIMIT: Duration = Duration::from_secs(1);

    fn task(dir: &Path) -> DiskTask {
        let path = |name: &str| dir.join(name);
        let sidecar =
            SidecarPlan { file: "vda.img.idx".into(), path: path("idx"), parent: None, parent_digest: None };
        DiskTask {
            target: "vda".into(),
            file: "vda.img".into(),
            export: Export { socket: path("none"), name: String::new() },
            bitmap: None,
            sink: SinkPlan::RawImage { path: path("img"), size: 1 << 20 },
            sidecar,
            earlier_streams: vec![],
            tripwire: None,
        }
    }

    /// Waits until the pulse tells that the disk stalls.
    fn stalled(task: &DiskTask, pulse: &Pulse, began: Instant) -> CopyError {
        loop {
            if let Some(error) = pulse.stalled(task, LIMIT) {
                assert!(began.elapsed() >= LIMIT);
                return error;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it never stalls");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_copy_that_stands_still_is_given_up_when_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let task = task(dir.path());
        let shared = Shared {
            compressors: Arc::new(Compressors::start(1, Method::Plain)),
            budget: Budget::new(1 << 20),
            disks: Budget::new(1),
            rate: Arc::new(Rate::new(0)),
            stall_limit: LIMIT,
        };
        let (_silent, arriving) = crossbeam_channel::bounded(1);
        let (began, pulse, cancel) = (Instant::now(), Pulse::new(), Cancel::default());
        thread::scope(|scope| {
            let writes =
                || write_all(&task, &arriving, &shared, &Busy::default(), &pulse, &Unwatched, &cancel);
            let writer = scope.spawn(writes);
            let error = stalled(&task, &pulse, began);
            assert!(matches!(error, CopyError::Stalled { seconds: 1, .. }), "{error:?}");
            cancel.stop(StopReason::OtherFailure);
            assert!(writer.join().unwrap().is_err());
        });
    }

    #[test]
    fn a_write_that_does_not_come_back_is_seen_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let task = task(dir.path());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (began, pulse) = (Instant::now(), Pulse::new());
        thread::scope(|scope| {
            let pulse = &pulse;
            scope.spawn(move || pulse.writing(|| released.recv().is_ok()));
            let error = stalled(&task, pulse, began);
            assert!(
                matches!(&error, CopyError::StalledWrite { path, .. } if path == task.sink.path()),
                "{error:?}"
            );
            drop(release);
        });
        pulse.held_back(|| thread::sleep(LIMIT));
        assert!(pulse.stalled(&task, LIMIT).is_none(), "to wait on purpose is no stall");
    }
}
