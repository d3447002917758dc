//! One stream, every byte of it read: structure, checksum, sidecar and, where these prove nothing, LZ4 and zstd pieces, in
//! one pass on many threads. One whose stored bytes turn out not to be as they were is read again, to find where.

use super::batch::{Batch, BatchWork, Batches};
use super::checksum_file::recorded;
use super::digest::RunningDigest;
use super::finding::{Finding, Level};
use super::sidecar;
use super::stream_report::{Checksum, Proof, StreamReport};
use crate::chain::StreamEntry;
use crate::restore::ordered;
use crate::sidecar::{Digest, Sidecar};
use crate::stream::checksum::{adler32, combine};
use crate::stream::{Coding, StreamError, StreamFile};
use std::num::NonZeroUsize;
use std::path::Path;

/// The most findings kept of one stream: a file of noise would name every piece.
const MAX_FINDINGS: usize = 100;

/// Looks at a stream's ends, its lengths, its checksum file and its sidecar's head. Reads no content.
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
    pass.report.findings.extend(sidecar::glance(entry));
    pass.report
}

/// How to read a stream.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// Threads.
    pub(super) workers: NonZeroUsize,
    /// Also decode what its stored bytes prove.
    pub(super) content: bool,
    /// Also hold the stream against the digest in its sidecar.
    pub(super) digest: bool,
    /// Hears the bytes read, as they are read.
    pub(super) read: &'a (dyn Fn(u64) + Sync),
}

/// Reads and decodes every byte of a stream, on so many threads. Goes on after damage wherever the structure allows it.
///
/// `read` hears the bytes read, as they are read.
pub fn verify_stream(
    entry: &StreamEntry,
    workers: NonZeroUsize,
    read: &(dyn Fn(u64) + Sync),
) -> StreamReport {
    read_stream(entry, Reading { workers, content: true, digest: true, read })
}

pub(super) fn read_stream(entry: &StreamEntry, how: Reading<'_>) -> StreamReport {
    let mut pass = Pass::new(entry);
    let sidecar = match sidecar::open(entry.sidecar.as_deref(), &entry.path, entry.file_len) {
        Ok(sidecar) => sidecar,
        Err(finding) => {
            pass.report.findings.push(finding);
            None
        }
    };
    match StreamFile::open(&entry.path) {
        Err(error) => pass.find(&error),
        Ok(stream) => pass.run(&stream, entry.checksum.as_deref(), sidecar, how),
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

/// What is looked at while a file is read.
#[derive(Clone, Copy)]
enum Look {
    /// The bytes as they are stored.
    Stored,
    /// Also what they hold.
    Content,
}

/// What reading a whole file gave.
struct Sums {
    /// Adler-32 of the file; `None` when it could not be read.
    adler32: Option<u32>,
    /// Its digest as a sidecar has it; `None` also when nobody asked.
    digest: Option<Digest>,
    /// Where blocks are not as the sidecar says.
    wrong_blocks: Vec<Finding>,
}

impl Pass {
    fn new(entry: &StreamEntry) -> Self {
        let report = StreamReport {
            path: entry.path.clone(),
            frame_count: 0,
            data_bytes: 0,
            checksum: Checksum::Unknown,
            has_sidecar: false,
            proof: None,
            findings: Vec::new(),
        };
        Self { report, hidden: 0 }
    }

    fn run(
        &mut self,
        stream: &StreamFile,
        checksum: Option<&Path>,
        sidecar: Option<Sidecar>,
        how: Reading<'_>,
    ) {
        let recorded = match checksum.map(recorded).transpose() {
            Ok(recorded) => recorded,
            Err(finding) => {
                self.report.checksum = Checksum::Unusable;
                self.report.findings.push(finding);
                None
            }
        };
        if checksum.is_none() {
            self.report.checksum = Checksum::Missing;
        }
        let sums = self.sums(stream, sidecar.as_ref(), recorded, how);
        if let Some((recorded, found)) = recorded.zip(sums.adler32) {
            self.report.checksum =
                if recorded == found { Checksum::Matches } else { Checksum::Differs { recorded, found } };
        }
        match sidecar {
            Some(sidecar) => self.hold_against(&sidecar, recorded, checksum, sums),
            None => self.blame_stream(),
        }
        self.report.proof = self.proof();
    }

    /// Stored bytes that are as they were written hold what was written: they are decoded only when that is asked for, or
    /// when nothing proves them.
    fn sums(
        &mut self,
        stream: &StreamFile,
        sidecar: Option<&Sidecar>,
        recorded: Option<u32>,
        how: Reading<'_>,
    ) -> Sums {
        let listed = sidecar.and_then(|sidecar| sidecar.head().stream.adler32);
        if how.content || stream.coding() == Coding::Plain || recorded.or(listed).is_none() {
            return self.read(stream, sidecar, Look::Content, how);
        }
        let before = self.report.findings.len();
        let sums = self.read(stream, sidecar, Look::Stored, how);
        let found = sums.adler32;
        let proven = found.is_some() && (found == recorded || found == listed);
        if proven && sums.wrong_blocks.is_empty() && self.report.findings.len() == before {
            return sums;
        }
        self.report.findings.truncate(before);
        self.hidden = 0;
        self.read(stream, sidecar, Look::Content, Reading { read: &|_| (), ..how })
    }

    fn read(&mut self, stream: &StreamFile, sidecar: Option<&Sidecar>, look: Look, how: Reading<'_>) -> Sums {
        let mut batches = Batches::new(stream, sidecar.map(Sidecar::blocks));
        let want_digest = how.digest && sidecar.is_some();
        let check = |batch: &Batch, work: &mut BatchWork| match look {
            Look::Stored => work.check_stored(stream, batch, want_digest, how.read),
            Look::Content => work.check(stream, batch, want_digest, how.read),
        };
        let (mut sum, mut wrong_blocks) = (Some(adler32(b"")), Vec::new());
        let mut digest = want_digest.then(|| RunningDigest::new(stream));
        let mut take = |batch: &mut BatchWork| {
            for error in batch.errors.drain(..) {
                self.find(&error);
            }
            let room = MAX_FINDINGS.saturating_sub(wrong_blocks.len());
            let wrong = batch.wrong.drain(..).take(room);
            wrong_blocks.extend(wrong.map(|wrong| wrong.finding(&self.report.path)));
            sum = sum.zip(batch.sum).map(|(sum, part)| combine(sum, part, batch.len));
            digest = digest.take().zip(batch.feed.take()).map(|(digest, feed)| digest.with(&feed));
        };
        if how.workers == NonZeroUsize::MIN {
            let mut work = BatchWork::default();
            for batch in &mut batches {
                check(&batch, &mut work);
                take(&mut work);
            }
        } else {
            let done = ordered::run(
                how.workers,
                BatchWork::default,
                (&mut batches).map(Ok::<_, std::convert::Infallible>),
                |batch, work: &mut BatchWork| {
                    check(&batch, work);
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
        let Batches { frame_count, data_bytes, broken, other_blocks, .. } = batches;
        self.report.frame_count = frame_count;
        self.report.data_bytes = data_bytes;
        if let Some(error) = broken {
            self.find(&error);
        }
        if let Some(at) = other_blocks {
            let message = "the frames from here on are not those that the sidecar lists".to_owned();
            let finding = Finding::about(Level::Damage, &self.report.path, message);
            wrong_blocks.push(Finding { at: Some(at), ..finding });
        }
        Sums { adler32: sum, digest: digest.map(RunningDigest::finish), wrong_blocks }
    }

    /// Without a sidecar, a checksum that does not fit is the stream's fault: nothing tells whose it is.
    fn blame_stream(&mut self) {
        if let Checksum::Differs { recorded, found } = self.report.checksum {
            let message = format!(
                "the file's checksum is {found}, its checksum file says {recorded}: the file or its checksum has \
                 changed since the backup"
            );
            self.report.findings.push(Finding::about(Level::Damage, &self.report.path, message));
        }
    }

    /// Three say what the stream's sum is: itself, its checksum file, its sidecar. Two of a mind are right.
    fn hold_against(
        &mut self,
        sidecar: &Sidecar,
        recorded: Option<u32>,
        checksum: Option<&Path>,
        sums: Sums,
    ) {
        let path = self.report.path.clone();
        let Some((found, listed)) = sums.adler32.zip(sidecar.head().stream.adler32) else {
            self.report.findings.extend(sums.wrong_blocks);
            return;
        };
        if found != listed && recorded == Some(found) {
            self.report.findings.push(sidecar::stale(&path));
            return;
        }
        self.report.has_sidecar = true;
        self.report.findings.extend(sums.wrong_blocks);
        if found != listed {
            let message = format!(
                "the file's checksum is {found}, its sidecar says {listed}: the file has changed since the backup"
            );
            self.report.findings.push(Finding::about(Level::Damage, &path, message));
        } else if let (Some(checksum), Some(recorded)) = (checksum, recorded.filter(|sum| *sum != found)) {
            let message = format!(
                "the checksum file says {recorded}; the stream's checksum is {found}, as its sidecar says"
            );
            self.report.findings.push(Finding::about(Level::Damage, checksum, message));
        }
        let digests = sums.digest.zip(sidecar.head().stream.digest);
        if found == listed && digests.is_some_and(|(found, listed)| found != listed) {
            let message =
                "its checksum is right, but its digest is not that of the sidecar: somebody has changed \
                           the file with care"
                    .to_owned();
            self.report.findings.push(Finding::about(Level::Damage, &path, message));
        }
    }

    fn proof(&self) -> Option<Proof> {
        if self.report.is_damaged() || self.report.is_unreadable() {
            return None;
        }
        match self.report.checksum {
            _ if self.report.has_sidecar => Some(Proof::Sidecar),
            Checksum::Matches => Some(Proof::Checksum),
            _ if self.report.data_bytes == 0 => Some(Proof::Empty),
            // The checksums inside LZ4 and zstd frames are of the content, not of where on the disk it belongs.
            _ => None,
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
