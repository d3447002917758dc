//! Copies one disk from an NBD export into a stream or a raw image.
//!
//! ```text
//! scout ──► readers ──► compressors ──► writer ──► file
//!   └──────────── zero ranges ────────────┘
//! ```
//! The scout asks for block status in windows and numbers what there is to do; readers keep several requests in
//! flight; compressors are shared by all disks of a run; the writer restores the order. A budget bounds the bytes
//! on their way. The first error stops the others and is the one reported.
//!
//! Must not live here: jobs, checkpoints, names in the chain directory.

mod all;
mod compress;
mod effort;
mod error;
mod meter;
mod method;
mod reader;
mod scout;
mod sink;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

pub use all::{CopiedDisk, copy_all};
pub use compress::Compressors;
pub use error::CopyError;
pub use meter::{Stage, Stages};
pub use method::Method;
pub use sink::{Copied, SinkPlan};

use meter::Meter;

use vmstream::sidecar::{Digest, Granules, PlainSums, StoredSums};

use super::budget::{Budget, Permit};
use super::cancel::{Cancel, StopReason};
use super::rate::Rate;
use super::watch::Watch;
use crate::nbd::Export;

/// Plain bytes of one frame, and of one NBD request. Large enough to be dense and quick, small enough that the
/// budget holds many.
pub const FRAME_LEN: u64 = 2 << 20;

/// Reads in flight on one connection. QEMU serves 16 at most (`MAX_NBD_REQUESTS`).
const READS_IN_FLIGHT: usize = 4;

/// Connections that read one disk. QEMU serves an export from one thread, so more gain nothing.
const CONNECTIONS: usize = 2;

/// Planned reads waiting for a reader.
const QUEUED_READS: usize = 64;

/// Pieces waiting for the writer of a disk.
const QUEUED_PIECES: usize = 256;

/// What to copy, and into what.
pub struct DiskTask {
    /// Disk target, for messages.
    pub target: String,
    /// Name of the file once it is published.
    pub file: String,
    /// Where to read.
    pub export: Export,
    /// The meta context of the dirty bitmap, for the changes only.
    pub bitmap: Option<String>,
    /// What to write.
    pub sink: SinkPlan,
    /// The sidecar to write with it.
    pub sidecar: SidecarPlan,
    /// Streams of the chain so far that hold data of this disk: where one does, zeroes must be written as data.
    pub earlier_streams: Vec<PathBuf>,
}

/// The sidecar of a disk's file.
#[derive(Clone, Debug)]
pub struct SidecarPlan {
    /// Its name once it is published.
    pub file: String,
    /// The file, `….partial`.
    pub path: PathBuf,
    /// The checkpoint whose changes the stream holds; `None` when it holds the whole disk.
    pub parent: Option<String>,
    /// The digest of the parent's sidecar, where there is one.
    pub parent_digest: Option<Digest>,
}

/// What all disks of a run share.
#[derive(Clone)]
pub struct Shared {
    /// Threads that compress.
    pub compressors: Arc<Compressors>,
    /// Memory for frames on their way.
    pub budget: Budget,
    /// How much may be written in a second.
    pub rate: Arc<Rate>,
    /// A disk that makes no progress for so long is given up: something hangs.
    pub stall_limit: Duration,
}

/// A read that is to be done.
struct ReadOp {
    seq: u64,
    start: u64,
    len: usize,
    permit: Permit,
}

/// A range of the disk on its way to the file.
enum Content {
    /// Bytes as the file stores them.
    Data { plain_len: u64, stored: Vec<u8>, sums: Sums },
    /// Zeroes.
    Zero { len: u64 },
}

/// Checksums of a piece: of its content, and of what the file stores. Made once, by the thread that compresses.
struct Sums {
    plain: PlainSums,
    stored: StoredSums,
}

/// One numbered piece for the writer.
struct Piece {
    seq: u64,
    start: u64,
    content: Content,
    permit: Permit,
}

impl Piece {
    /// Bytes that it takes in the file.
    fn stored_len(&self) -> usize {
        match &self.content {
            Content::Data { stored, .. } => stored.len(),
            Content::Zero { .. } => 0,
        }
    }
}

/// What reaches the writer.
enum ToWriter {
    Piece(Piece),
    /// The scout went on: the guest's side answers, though there may be nothing to write.
    Surveyed,
    /// The scout is through: so many pieces there are.
    Total(u64),
    /// A frame could not be made.
    Failed(CopyError),
}

/// The first failure of a copy. Later ones are its echo.
struct FirstError {
    slot: Mutex<Option<CopyError>>,
    cancel: Cancel,
}

impl FirstError {
    /// Keeps the first error and stops everything else that works on this disk.
    fn note<T>(&self, result: Result<T, CopyError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.cancel.stop(StopReason::OtherFailure);
        None
    }

    fn into_result<T>(self, value: Option<T>) -> Result<T, CopyError> {
        let error = self.slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (error, value) {
            (None, Some(value)) => Ok(value),
            (Some(error), _) => Err(error),
            (None, None) => Err(CopyError::Stopped(StopReason::OtherFailure)),
        }
    }
}

/// A stage that panics must not leave the others waiting for it for ever.
struct StopOnPanic<'a>(&'a Cancel);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop(StopReason::OtherFailure);
        }
    }
}

/// Copies one disk. Returns when the file is complete and synced, or at the first error.
pub fn copy_disk(
    task: &DiskTask,
    shared: &Shared,
    watch: &dyn Watch,
    cancel: &Cancel,
) -> Result<(Copied, Stages), CopyError> {
    let cancel = cancel.child();
    let compressors = &shared.compressors;
    let meter = &Meter::begin(compressors.worked());
    let first_error = FirstError { slot: Mutex::new(None), cancel: cancel.clone() };
    let (op_tx, op_rx) = bounded::<ReadOp>(QUEUED_READS);
    let (piece_tx, piece_rx) = bounded::<ToWriter>(QUEUED_PIECES);
    let copied = thread::scope(|scope| {
        let (note, cancel) = (&first_error, &cancel);
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
        note.note(writer::write_all(task, &piece_rx, shared, &meter.writing, watch, cancel))
    });
    let stages = meter.end(compressors.worked(), compressors.threads());
    first_error.into_result(copied).map(|copied| (copied, stages))
}
