//! Writes a sidecar front to back in memory that does not grow.

use super::granule::{Collector, Granules, Value};
use super::head::Head;
use super::record::{BLOCKS, Block, CHUNK_HEAD, RUNS, Run, RunKind};
use super::sums::{Digest, PlainSums};
use super::{END_MAGIC, MAGIC, VERSION};
use crate::fresh;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A chunk is written when its payload has so many bytes.
const CHUNK_LEN: usize = 64 << 10;

/// The most granules of a run with sums.
const MAX_KNOWN: usize = CHUNK_LEN / 8;

/// A sidecar under construction: blocks and content in disk order, what is said about them last.
#[derive(Debug)]
pub struct SidecarWriter {
    file: BufWriter<File>,
    digest: blake3::Hasher,
    granules: Granules,
    collector: Collector,
    blocks: Vec<u8>,
    runs: Vec<u8>,
    /// The last run, which may grow.
    run: Option<Run>,
}

/// A complete sidecar. Whoever takes it makes it durable.
#[derive(Debug)]
pub struct FinishedSidecar {
    /// The open file, for its times and its sync.
    pub file: File,
    /// What the next point's sidecar names as its parent.
    pub digest: Digest,
    /// It does not list the point's other files: they are too many, or a name of them leads out of the folder.
    pub without_files: bool,
}

impl SidecarWriter {
    /// Creates the file.
    pub fn create(path: &Path, granules: Granules) -> io::Result<Self> {
        let mut writer = Self {
            file: BufWriter::new(fresh::create(path, 0o640)?),
            digest: blake3::Hasher::new(),
            granules,
            collector: Collector::new(granules),
            blocks: Vec::new(),
            runs: Vec::new(),
            run: None,
        };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    /// Notes a block of the stream. They come in the stream's order.
    pub fn block(&mut self, block: &Block) -> io::Result<()> {
        block.encode(&mut self.blocks);
        if self.blocks.len() >= CHUNK_LEN {
            self.put_blocks()?;
        }
        Ok(())
    }

    /// Notes that the disk has content of `len` bytes with these sums. All that is noted comes in disk order.
    pub fn data(&mut self, start: u64, len: u64, sums: &PlainSums) -> io::Result<()> {
        let end = start + len;
        for (number, remainder) in self.granules.touched(&(start..end)).zip(&sums.remainders) {
            let range = self.granules.range(number);
            let bytes = range.end.min(end) - range.start.max(start);
            let done = self.collector.part(number, bytes, *remainder);
            self.value(done)?;
        }
        Ok(())
    }

    /// Notes that the disk is zero there.
    pub fn zero(&mut self, start: u64, len: u64) -> io::Result<()> {
        let (mut at, end) = (start, start + len);
        while at < end {
            let number = at / self.granules.size();
            let range = self.granules.range(number);
            if at > range.start || end < range.end {
                let upto = range.end.min(end);
                let done = self.collector.part(number, upto - at, 0);
                self.value(done)?;
                at = upto;
                continue;
            }
            let done = self.collector.close();
            self.value(done)?;
            // All granules from here on that the range covers to their ends.
            let last = if end == self.granules.disk_size() {
                self.granules.count()
            } else {
                end / self.granules.size()
            };
            self.zeros(number, last - number)?;
            at = self.granules.range(last - 1).end;
        }
        Ok(())
    }

    /// Notes what another sidecar of a disk that is cut alike knows. Runs come in disk order, and nothing else with them.
    pub fn run(&mut self, run: &Run) -> io::Result<()> {
        if let RunKind::Zero(count) = run.kind {
            return self.zeros(run.first, count.into());
        }
        for number in run.numbers() {
            self.value(Some((number, run.value(number, self.granules))))?;
        }
        Ok(())
    }

    /// Writes the rest and the head. A head that no reader takes because of its files is written
    /// without them.
    ///
    /// # Errors
    /// Also of [`io::ErrorKind::InvalidInput`], for a head that no reader takes.
    pub fn finish(mut self, head: &Head) -> io::Result<FinishedSidecar> {
        let done = self.collector.close();
        self.value(done)?;
        self.put_run()?;
        self.put_runs()?;
        self.put_blocks()?;
        let full = head.to_readable_json();
        let without_files = full.is_none();
        let bare = || Head { files: Vec::new(), ..head.clone() }.to_readable_json();
        let json = full.or_else(bare).ok_or(io::ErrorKind::InvalidInput)?;
        self.put(&json)?;
        self.put(&u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes())?;
        self.put(&crc32fast::hash(&json).to_le_bytes())?;
        let digest: Digest = self.digest.finalize().into();
        self.file.write_all(&digest)?;
        self.file.write_all(END_MAGIC)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(FinishedSidecar { file, digest, without_files })
    }

    /// How the disk is cut.
    pub fn granules(&self) -> Granules {
        self.granules
    }

    fn value(&mut self, done: Option<(u64, Value)>) -> io::Result<()> {
        let Some((number, value)) = done else { return Ok(()) };
        match value {
            Value::Known(sum) if sum == self.granules.zero_sum(number) => self.zeros(number, 1),
            Value::Known(sum) => {
                if let Some(Run { first, kind: RunKind::Known(sums) }) = &mut self.run {
                    if *first + sums.len() as u64 == number && sums.len() < MAX_KNOWN {
                        sums.push(sum);
                        return Ok(());
                    }
                }
                self.put_run()?;
                self.run = Some(Run { first: number, kind: RunKind::Known(vec![sum]) });
                Ok(())
            }
            Value::Unknown => {
                if let Some(Run { first, kind: RunKind::Unknown(count) }) = &mut self.run {
                    if *first + u64::from(*count) == number && *count < u32::MAX {
                        *count += 1;
                        return Ok(());
                    }
                }
                self.put_run()?;
                self.run = Some(Run { first: number, kind: RunKind::Unknown(1) });
                Ok(())
            }
        }
    }

    fn zeros(&mut self, mut number: u64, mut left: u64) -> io::Result<()> {
        if let Some(Run { first, kind: RunKind::Zero(count) }) = &mut self.run {
            if *first + u64::from(*count) == number {
                let more = left.min(u64::from(u32::MAX - *count));
                *count += more as u32;
                (number, left) = (number + more, left - more);
            }
        }
        while left > 0 {
            self.put_run()?;
            let count = left.min(u32::MAX.into());
            self.run = Some(Run { first: number, kind: RunKind::Zero(count as u32) });
            (number, left) = (number + count, left - count);
        }
        Ok(())
    }

    fn put_run(&mut self) -> io::Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        run.encode(&mut self.runs);
        if self.runs.len() >= CHUNK_LEN { self.put_runs() } else { Ok(()) }
    }

    fn put_runs(&mut self) -> io::Result<()> {
        let payload = std::mem::take(&mut self.runs);
        self.runs = self.put_chunk(RUNS, payload)?;
        Ok(())
    }

    fn put_blocks(&mut self) -> io::Result<()> {
        let payload = std::mem::take(&mut self.blocks);
        self.blocks = self.put_chunk(BLOCKS, payload)?;
        Ok(())
    }

    /// Writes a chunk, and gives its payload's memory back.
    fn put_chunk(&mut self, kind: [u8; 4], mut payload: Vec<u8>) -> io::Result<Vec<u8>> {
        if payload.is_empty() {
            return Ok(payload);
        }
        let mut head = Vec::with_capacity(CHUNK_HEAD);
        head.extend(kind);
        head.extend((payload.len() as u32).to_le_bytes());
        head.extend(crc32fast::hash(&payload).to_le_bytes());
        self.put(&head)?;
        self.put(&payload)?;
        payload.clear();
        Ok(payload)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.file.write_all(bytes)
    }
}
