//! The threads that compress: one set for all disks of all domains of a run.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use vmstream::restore::is_zero;
use vmstream::sidecar::{Granules, PlainSums, StoredSums};
use vmstream::stream::Compression;
use vmstream::stream::codec;
use vmstream::stream::writer::FRAME_LEN;

use super::budget::Permit;
use super::effort::Effort;
use super::error::CopyError;
use super::meter::Busy;
use super::piece::{Content, Piece, Sums, ToWriter};
use super::task::{DiskTask, SinkPlan};
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::method::Method;

/// Spare buffers kept for the next reads. Fresh ones cost a page fault for every 4 KiB.
const SPARE_BUFFERS: usize = 32;

/// A frame that was read.
struct Job {
    lane: Lane,
    target: String,
    seq: u64,
    start: u64,
    plain: Vec<u8>,
    permit: Permit,
    cancel: Cancel,
}

/// Compression threads. They end when the last user is gone.
pub struct Compressors {
    jobs: Sender<Job>,
    spare: Arc<Spare>,
    effort: Option<Arc<Effort>>,
    busy: Arc<Busy>,
    threads: usize,
}

/// Buffers that were used before.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

/// The way of one disk's frames through the compressors to its writer.
#[derive(Clone)]
pub(super) struct Lane {
    compression: Option<Compression>,
    granules: Granules,
    jobs: Sender<Job>,
    pieces: Sender<ToWriter>,
    spare: Arc<Spare>,
    effort: Option<Arc<Effort>>,
    began: Instant,
}

impl Compressors {
    /// Starts `threads` threads. `method` tells whether they choose the level of each frame.
    pub fn start(threads: usize, method: Method) -> Self {
        let effort = (method == Method::Auto).then(|| Arc::new(Effort::new()));
        let busy = Arc::new(Busy::default());
        let (jobs, queue) = bounded::<Job>(threads * 2);
        let spare = Arc::new(Spare::default());
        for i in 0..threads {
            let queue = queue.clone();
            let busy = Arc::clone(&busy);
            let body = move || work(&queue, &busy);
            // A machine that cannot start one thread more still has the others; with none, submitting fails.
            let _ = thread::Builder::new().name(format!("compress-{i}")).spawn(body);
        }
        Self { jobs, spare, effort, busy, threads }
    }

    /// A lane for one disk.
    pub(super) fn lane(&self, sink: &SinkPlan, pieces: Sender<ToWriter>) -> Lane {
        let (compression, granules) = (sink.compression(), sink.granules());
        let (jobs, spare, effort) = (self.jobs.clone(), Arc::clone(&self.spare), self.effort.clone());
        Lane { compression, granules, jobs, pieces, spare, effort, began: Instant::now() }
    }

    /// How long they have worked so far, all threads together.
    pub(super) fn worked(&self) -> Duration {
        self.busy.total()
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }
}

impl Lane {
    /// A buffer to read into.
    pub(super) fn buffer(&self, len: usize) -> Vec<u8> {
        self.spare.take(len)
    }

    /// Hands a frame to the compressors.
    pub(super) fn submit(
        &self,
        task: &DiskTask,
        seq: u64,
        start: u64,
        plain: Vec<u8>,
        permit: Permit,
        cancel: &Cancel,
    ) -> Result<(), CopyError> {
        let (lane, target, cancel) = (self.clone(), task.target.clone(), cancel.clone());
        let job = Job { lane, target, seq, start, plain, permit, cancel };
        self.jobs.send(job).map_err(|_| CopyError::Stopped(StopReason::OtherFailure))
    }
}

fn work(queue: &Receiver<Job>, busy: &Busy) {
    let mut free_since = Instant::now();
    for job in queue {
        // Nobody waits for a copy that has not begun.
        let waited = free_since.max(job.lane.began).elapsed();
        let began = Instant::now();
        if job.cancel.stopped().is_some() {
            continue;
        }
        let lane = job.lane.clone();
        let sent = match frame(job, waited) {
            Ok(piece) => lane.pieces.send(ToWriter::Piece(piece)),
            Err(error) => lane.pieces.send(ToWriter::Failed(error)),
        };
        // A writer that is gone has failed and said why.
        drop(sent);
        busy.add(began.elapsed());
        free_since = Instant::now();
    }
}

/// What the file will store of a frame: nothing but its length when all of it is zero.
fn frame(job: Job, waited: Duration) -> Result<Piece, CopyError> {
    let Job { lane, target, seq, start, plain, permit, .. } = job;
    let plain_len = plain.len() as u64;
    let content = if is_zero(&plain) {
        lane.spare.give(plain);
        Content::Zero { len: plain_len }
    } else if let Some(compression) = lane.compression {
        let plain_sums = PlainSums::of(start, &plain, lane.granules);
        let mut stored = Vec::with_capacity(plain.len() / 2);
        let effort = lane.effort.as_deref();
        let compression =
            effort.map_or(compression, |effort| Compression::Lz4(effort.level(waited, plain.len())));
        let began = Instant::now();
        codec::compress(&plain, compression, &mut stored).map_err(|source| CopyError::Compress {
            target,
            at: start,
            source,
        })?;
        if let Some(effort) = effort {
            effort.spent(compression.level(), plain_len, began.elapsed());
        }
        lane.spare.give(plain);
        let sums = Sums { plain: plain_sums, stored: StoredSums::of(&stored) };
        Content::Data { plain_len, stored, sums }
    } else {
        let plain_sums = PlainSums::of(start, &plain, lane.granules);
        let sums = Sums { plain: plain_sums, stored: StoredSums::of(&plain) };
        Content::Data { plain_len, stored: plain, sums }
    };
    debug_assert!(plain_len <= FRAME_LEN);
    Ok(Piece { seq, start, content, permit })
}
