//! One stream, every byte of it read once: structure, LZ4 pieces and checksum in one pass.

use super::report::{Finding, Level};
use crate::chain::StreamEntry;
use crate::stream::{Adler32, FrameKind, Piece, StreamError, StreamFile};
use std::io::Read;
use std::path::{Path, PathBuf};

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

/// Reads every byte of a stream. Goes on after damage wherever the structure allows it.
///
/// `read` hears the bytes read, as they are read.
pub fn verify_stream(entry: &StreamEntry, read: &dyn Fn(u64)) -> StreamReport {
    let mut pass = Pass {
        report: StreamReport {
            path: entry.path.clone(),
            frame_count: 0,
            data_bytes: 0,
            checksum: Checksum::Unknown,
            proof: None,
            findings: Vec::new(),
        },
        hidden: 0,
        read,
    };
    match StreamFile::open(&entry.path) {
        Err(error) => pass.find(&error),
        Ok(stream) => pass.run(&stream, entry.checksum.as_deref()),
    }
    let Pass { mut report, hidden, .. } = pass;
    if hidden > 0 {
        let message = format!("{hidden} more findings of this file are not listed");
        report.findings.push(Finding::about(Level::Damage, &entry.path, message));
    }
    report
}

struct Pass<'a> {
    report: StreamReport,
    hidden: u64,
    read: &'a dyn Fn(u64),
}

impl Pass<'_> {
    fn run(&mut self, stream: &StreamFile, checksum: Option<&Path>) {
        let mut sum = RunningSum { stream, sum: Adler32::new(), at: 0 };
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        for frame in stream.frames() {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    self.find(&error);
                    break;
                }
            };
            self.report.frame_count += 1;
            if frame.header.kind != FrameKind::Data {
                continue;
            }
            self.report.data_bytes += frame.header.len;
            for piece in frame.pieces() {
                let outcome = stream.read_piece(&piece, &mut stored, &mut plain);
                let bytes = if stream.is_compressed() { &stored } else { &plain };
                if let Err(error) = outcome.and_then(|()| sum.take(&piece, bytes, self.read)) {
                    self.find(&error);
                }
            }
        }
        match sum.finish(self.read) {
            Ok(found) => self.compare(checksum, found),
            Err(error) => self.find(&error),
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

/// The checksum over a file whose payloads somebody else reads, in order.
struct RunningSum<'a> {
    stream: &'a StreamFile,
    sum: Adler32,
    at: u64,
}

impl RunningSum<'_> {
    /// Adds everything up to a piece, then the piece, whose stored bytes are at hand.
    fn take(&mut self, piece: &Piece, stored: &[u8], read: &dyn Fn(u64)) -> Result<(), StreamError> {
        self.upto(piece.stored_at, read)?;
        self.sum.update(stored);
        self.at += piece.stored_len;
        read(piece.stored_len);
        Ok(())
    }

    /// Reads and adds what lies between payloads, and payloads that did not decode.
    fn upto(&mut self, end: u64, read: &dyn Fn(u64)) -> Result<(), StreamError> {
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

    fn finish(mut self, read: &dyn Fn(u64)) -> Result<u32, StreamError> {
        self.upto(self.stream.file_len(), read)?;
        Ok(self.sum.finish())
    }
}

/// The decimal number in a checksum file.
fn recorded(path: &Path) -> Result<u32, Finding> {
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
