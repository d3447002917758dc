//! One stream, every byte of it read once: structure, LZ4 pieces and checksum in one pass, on many threads.

use super::report::{Finding, Level};
use crate::chain::StreamEntry;
use crate::restore::ordered;
use crate::stream::checksum::combine;
use crate::stream::{Adler32, FrameKind, Frames, Piece, StreamError, StreamFile};
use std::collections::VecDeque;
use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes of a file that one thread checks at a time, or a single frame if that is larger.
const BATCH_LEN: u64 = 8 << 20;

/// The most findings kept of one stream: a file of noise would name every piece.
const MAX_FINDINGS: usize = 100;

/// What proves a stream's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The checksum file's sum over every byte.
    Checksum,
    /// The checksums inside the LZ4 frames: all content, not where it belongs.
    Lz4,
    /// There is no content.
    Empty,
}

/// What the checksum file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// There is none (old tools write none).
    Missing,
    /// It fits.
    Matches,
    /// It does not fit.
    Differs {
        /// What the file says.
        recorded: u32,
        /// The sum of the stream.
        found: u32,
    },
    /// It is no checksum, or could not be read.
    Unusable,
    /// The stream broke off before its sum was known.
    Unknown,
}

/// What was found in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// The file.
    pub path: PathBuf,
    /// Frames walked.
    pub frame_count: u64,
    /// Content bytes of its data frames, as far as walked.
    pub data_bytes: u64,
    /// The checksum file.
    pub checksum: Checksum,
    /// What proves it; `None` when damaged, unreadable, or when nothing does.
    pub proof: Option<Proof>,
    /// What was found; at most a hundred and one that counts the rest.
    pub findings: Vec<Finding>,
}

impl StreamReport {
    /// True when a restore must not trust it.
    pub fn is_damaged(&self) -> bool {
        // An unusable checksum file is damage too, but not of the stream.
        self.findings.iter().any(|finding| finding.level == Level::Damage && finding.path == self.path)
    }

    /// True when the system could not read all of it.
    pub fn is_unreadable(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Unreadable)
    }
}

/// Looks at a stream's ends, its lengths and its checksum file. Reads no content.
pub fn glance_at_stream(entry: &StreamEntry) -> StreamReport {
    let mut pass = Pass::new(entry);
    match StreamFile::open(&entry.path) {
        Err(error) => pass.find(&error),
        Ok(stream) => {
            pass.report.data_bytes = stream.meta().data_size;
            if let Err(error) = stream.check_ends() {
                pass.find(&error);
            }
        }
    }
    match entry.checksum.as_deref().map(recorded) {
        None => pass.report.checksum = Checksum::Missing,
        Some(Ok(_)) => {}
        Some(Err(finding)) => {
            pass.report.checksum = Checksum::Unusable;
            pass.report.findings.push(finding);
        }
    }
    pass.report
}

/// Reads every byte of a stream, on so many threads. Goes on after damage wherever the structure allows it.
///
/// `read` hears the bytes read, as they are read.
pub fn verify_stream(
    entry: &StreamEntry,
    workers: NonZeroUsize,
    read: &(dyn Fn(u64) + Sync),
) -> StreamReport {
    let mut pass = Pass::new(entry);
    match StreamFile::open(&entry.path) {
        Err(error) => pass.find(&error),
        Ok(stream) => pass.run(&stream, entry.checksum.as_deref(), workers, read),
    }
    let Pass { mut report, hidden, .. } = pass;
    if hidden > 0 {
        let message = format!("{hidden} more findings of this file are not listed");
        report.findings.push(Finding::about(Level::Damage, &entry.path, message));
    }
    report
}

struct Pass {
    report: StreamReport,
    hidden: u64,
}

impl Pass {
    fn new(entry: &StreamEntry) -> Self {
        let report = StreamReport {
            path: entry.path.clone(),
            frame_count: 0,
            data_bytes: 0,
            checksum: Checksum::Unknown,
            proof: None,
            findings: Vec::new(),
        };
        Self { report, hidden: 0 }
    }

    fn run(
        &mut self,
        stream: &StreamFile,
        checksum: Option<&Path>,
        workers: NonZeroUsize,
        read: &(dyn Fn(u64) + Sync),
    ) {
        let mut batches = Batches::new(stream);
        let mut sum = Some(Adler32::new().finish());
        let mut take = |batch: &mut BatchWork| {
            for error in batch.errors.drain(..) {
                self.find(&error);
            }
            sum = sum.zip(batch.sum).map(|(sum, part)| combine(sum, part, batch.len));
        };
        if workers == NonZeroUsize::MIN {
            let mut work = BatchWork::default();
            for batch in &mut batches {
                work.check(stream, &batch, read);
                take(&mut work);
            }
        } else {
            let done = ordered::run(
                workers,
                BatchWork::default,
                (&mut batches).map(Ok::<_, std::convert::Infallible>),
                |batch, work: &mut BatchWork| {
                    work.check(stream, &batch, read);
                    Ok(())
                },
                |work| {
                    take(work);
                    Ok(())
                },
            );
            match done {
                Ok(()) => {}
                Err(never) => match never {},
            }
        }
        let Batches { frame_count, data_bytes, broken, .. } = batches;
        self.report.frame_count = frame_count;
        self.report.data_bytes = data_bytes;
        if let Some(error) = broken {
            self.find(&error);
        }
        if let Some(found) = sum {
            self.compare(checksum, found);
        }
        self.report.proof = self.proof(stream);
    }

    fn compare(&mut self, checksum: Option<&Path>, found: u32) {
        let Some(path) = checksum else {
            self.report.checksum = Checksum::Missing;
            return;
        };
        match recorded(path) {
            Err(finding) => {
                self.report.checksum = Checksum::Unusable;
                self.report.findings.push(finding);
            }
            Ok(recorded) if recorded == found => self.report.checksum = Checksum::Matches,
            Ok(recorded) => {
                self.report.checksum = Checksum::Differs { recorded, found };
                let message = format!(
                    "the file's checksum is {found}, its checksum file says {recorded}: the file or its \
                     checksum has changed since the backup"
                );
                let finding = Finding::about(Level::Damage, &self.report.path, message);
                self.report.findings.push(finding);
            }
        }
    }

    fn proof(&self, stream: &StreamFile) -> Option<Proof> {
        if self.report.is_damaged() || self.report.is_unreadable() {
            return None;
        }
        match self.report.checksum {
            Checksum::Matches => Some(Proof::Checksum),
            _ if self.report.data_bytes == 0 => Some(Proof::Empty),
            _ => stream.is_compressed().then_some(Proof::Lz4),
        }
    }

    fn find(&mut self, error: &StreamError) {
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(Finding::of_error(&self.report.path, error));
        } else {
            self.hidden += 1;
        }
    }
}

/// A part of the file: its pieces, and all bytes from one place to another.
struct Batch {
    file: Range<u64>,
    pieces: Vec<Piece>,
}

/// The file cut into batches that any thread can check: in order, without gaps, to the end of the file.
struct Batches<'a> {
    frames: Frames<'a>,
    /// Pieces of a frame that is larger than a batch.
    rest: VecDeque<Piece>,
    file_len: u64,
    at: u64,
    frame_count: u64,
    data_bytes: u64,
    /// Where the walk broke off.
    broken: Option<StreamError>,
}

impl<'a> Batches<'a> {
    fn new(stream: &'a StreamFile) -> Self {
        let (frames, file_len) = (stream.frames(), stream.file_len());
        Self { frames, rest: VecDeque::new(), file_len, at: 0, frame_count: 0, data_bytes: 0, broken: None }
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.at >= self.file_len {
            return None;
        }
        let start = self.at;
        let mut pieces: Vec<Piece> = Vec::new();
        while self.at - start < BATCH_LEN {
            if let Some(piece) = self.rest.pop_front() {
                self.at = piece.stored_at + piece.stored_len;
                pieces.push(piece);
                continue;
            }
            let frame = match self.frames.next() {
                None => {
                    self.at = self.file_len;
                    break;
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    self.at = self.file_len;
                    break;
                }
                Some(Ok(frame)) => frame,
            };
            self.frame_count += 1;
            if frame.header.kind == FrameKind::Data {
                self.data_bytes += frame.header.len;
                self.rest.extend(frame.pieces());
            } else {
                self.at = frame.stored_at;
            }
        }
        Some(Batch { file: start..self.at, pieces })
    }
}

/// One thread's room for a batch, and what it found there.
#[derive(Default)]
struct BatchWork {
    stored: Vec<u8>,
    plain: Vec<u8>,
    errors: Vec<StreamError>,
    /// Adler-32 of the batch; `None` when it could not be read.
    sum: Option<u32>,
    len: u64,
}

impl BatchWork {
    fn check(&mut self, stream: &StreamFile, batch: &Batch, read: &dyn Fn(u64)) {
        self.len = batch.file.end - batch.file.start;
        let mut sum = RunningSum::new(stream, batch.file.start);
        for piece in &batch.pieces {
            let outcome = stream.read_piece(piece, &mut self.stored, &mut self.plain);
            let bytes = if stream.is_compressed() { &self.stored } else { &self.plain };
            if let Err(error) = outcome.and_then(|()| sum.take(piece, bytes, read)) {
                self.errors.push(error);
            }
        }
        self.sum = match sum.upto(batch.file.end, read) {
            Ok(()) => Some(sum.finish()),
            Err(error) => {
                self.errors.push(error);
                None
            }
        };
    }
}

/// The checksum over a file whose payloads somebody else reads, in order.
pub(crate) struct RunningSum<'a> {
    stream: &'a StreamFile,
    sum: Adler32,
    at: u64,
}

impl<'a> RunningSum<'a> {
    /// The sum of no bytes, from this place of the file on.
    pub(crate) fn new(stream: &'a StreamFile, at: u64) -> Self {
        Self { stream, sum: Adler32::new(), at }
    }

    /// The sum so far.
    pub(crate) fn finish(&self) -> u32 {
        self.sum.finish()
    }

    /// Up to where bytes were added.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Adds everything up to a piece, then the piece, whose stored bytes are at hand.
    pub(crate) fn take(
        &mut self,
        piece: &Piece,
        stored: &[u8],
        read: &dyn Fn(u64),
    ) -> Result<(), StreamError> {
        self.upto(piece.stored_at, read)?;
        self.sum.update(stored);
        self.at += piece.stored_len;
        read(piece.stored_len);
        Ok(())
    }

    /// Reads and adds what lies between payloads, and payloads that did not decode.
    pub(crate) fn upto(&mut self, end: u64, read: &dyn Fn(u64)) -> Result<(), StreamError> {
        if end <= self.at {
            return Ok(());
        }
        let mut input = self.stream.section(self.at, end - self.at);
        let mut buffer = vec![0; (end - self.at).min(1 << 20) as usize];
        while self.at < end {
            let len = input.read(&mut buffer).map_err(|source| StreamError::Read {
                at: self.at,
                len: end - self.at,
                source,
            })?;
            if len == 0 {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(StreamError::Read { at: self.at, len: end - self.at, source });
            }
            self.sum.update(&buffer[..len]);
            self.at += len as u64;
            read(len as u64);
        }
        Ok(())
    }
}

/// The decimal number in a checksum file.
pub(crate) fn recorded(path: &Path) -> Result<u32, Finding> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() != std::io::ErrorKind::InvalidData => {
            Err(Finding::about(Level::Unreadable, path, error.to_string()))
        }
        _ => text.trim().parse().map_err(|_| {
            let message = "the checksum file does not hold a number".to_owned();
            Finding::about(Level::Damage, path, message)
        }),
    }
}
