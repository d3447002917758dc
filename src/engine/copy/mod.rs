//! Copies disks from NBD exports into streams or raw images.
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
pub mod budget;
mod compress;
mod effort;
mod error;
pub mod extent;
mod first_error;
mod meter;
mod method;
mod pulse;
pub mod rate;
mod reader;
mod scout;
mod sink;
mod tripwire;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

pub use all::{CopiedDisk, copy_all};
pub use compress::Compressors;
pub use error::CopyError;
pub use meter::{Stage, Stages};
pub use method::Method;
pub use sink::{Copied, SinkPlan};
pub use tripwire::{Trip, TripwirePlan};

use first_error::FirstError;
use meter::Meter;
use pulse::Pulse;

use vmstream::sidecar::{Digest, Granules, PlainSums, StoredSums};

use self::budget::{Budget, Permit};
use self::rate::Rate;
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::watch::Watch;
use vmhost::nbd::Export;

/// Disks of one domain that are copied at the same time. QEMU serves 100 connections to a job (`NBD_DEFAULT_MAX_CONNECTIONS`),
/// and each disk needs three.
const DISKS_OF_DOMAIN: usize = 16;

/// Disks of all domains of a run that are copied at the same time: each has buffers of its own.
pub const DISKS_OF_RUN: u64 = 24;

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
    /// What the chain knows of the disk, to notice what the bitmap does not tell.
    pub tripwire: Option<TripwirePlan>,
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
    /// A place for each disk that is copied at the same time, all domains together.
    pub disks: Budget,
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
fn copy_disk(
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
