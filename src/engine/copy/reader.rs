//! Reads what the scout planned, several requests in flight on one connection.

use std::collections::HashMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::budget::Permit;
use super::compress::Lane;
use super::error::CopyError;
use super::limits::READS_IN_FLIGHT;
use super::meter::Busy;
use super::piece::ReadOp;
use super::task::DiskTask;
use crate::engine::cancel::Cancel;
use vmhost::nbd::{Connection, NbdError};

/// How long to wait for one event before looking for new work and for a stop.
const WAIT: Duration = Duration::from_millis(50);

/// Serves the queue until it is closed and drained. Connects at the first read only: an idle disk needs none.
pub(super) fn read_all(
    task: &DiskTask,
    ops: &Receiver<ReadOp>,
    lane: &Lane,
    busy: &Busy,
    cancel: &Cancel,
) -> Result<(), CopyError> {
    let failed = |source: NbdError| CopyError::Read { target: task.target.clone(), source: Box::new(source) };
    let Some(first) = next_op(ops, cancel, true)? else { return Ok(()) };
    let mut connection = Connection::open(&task.export, &[]).map_err(failed)?;
    let mut permits: HashMap<u64, Permit> = HashMap::new();
    let mut next = Some(first);
    loop {
        while let Some(op) = next.take() {
            connection.start_read(lane.buffer(op.len), op.start, op.seq).map_err(failed)?;
            permits.insert(op.seq, op.permit);
            if connection.in_flight() < READS_IN_FLIGHT {
                next = next_op(ops, cancel, false)?;
            }
        }
        if connection.in_flight() == 0 {
            next = next_op(ops, cancel, true)?;
            if next.is_none() {
                return Ok(());
            }
            continue;
        }
        let done = match busy.during(|| connection.wait(WAIT)) {
            Err(e) if e.is_timeout() => Vec::new(),
            other => other.map_err(failed)?,
        };
        cancel.check()?;
        for read in done {
            read.result.map_err(failed)?;
            let Some(permit) = permits.remove(&read.tag) else { continue };
            lane.submit(task, read.tag, read.offset, read.buf, permit, cancel)?;
        }
        if connection.in_flight() < READS_IN_FLIGHT {
            next = next_op(ops, cancel, false)?;
        }
    }
}

/// The next planned read. `None` when there is none now (`wait` false), or never again (`wait` true).
fn next_op(ops: &Receiver<ReadOp>, cancel: &Cancel, wait: bool) -> Result<Option<ReadOp>, CopyError> {
    loop {
        cancel.check()?;
        if !wait {
            return match ops.try_recv() {
                Ok(op) => Ok(Some(op)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
            };
        }
        match ops.recv_timeout(WAIT) {
            Ok(op) => return Ok(Some(op)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}
