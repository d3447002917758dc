//! Reads a sidecar, which may be anything: every length is held against the file before it is believed.

use super::head::{Head, HeadError, MAX_HEAD_LEN};
use super::record::{BLOCK_LEN, BLOCKS, Block, CHUNK_HEAD, MAX_PAYLOAD, RUNS, Run, word};
use super::sums::Digest;
use super::{END_MAGIC, MAGIC, VERSION};
use crate::blob::Blob;
use crate::pooled::Pooled;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// Bytes before the first chunk: magic and version.
pub(super) const START_LEN: u64 = 12;

/// Bytes after the head: its length, its CRC-32, the digest, magic.
const END_LEN: usize = 48;

/// Bytes read at once for the digest.
const READ_LEN: usize = 256 << 10;

/// Why a sidecar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The file could not be read.
    #[error("Cannot read the sidecar")]
    Read(#[source] io::Error),
    /// It does not begin or end as a sidecar does.
    #[error("The file is no sidecar, or is cut off")]
    NotASidecar,
    /// Made by a newer program. Nothing is wrong with it.
    #[error("The sidecar has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// The head is larger than the file, or than allowed, or its checksum differs.
    #[error("The sidecar's head is damaged")]
    HeadDamaged,
    /// The head is as it was written, and says nothing usable.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The digest over everything differs.
    #[error("The sidecar is not as it was written: its digest differs")]
    Digest,
    /// A chunk or a record in it that cannot be.
    #[error("The sidecar's record at offset {at} makes no sense")]
    Record {
        /// Where the chunk begins.
        at: u64,
    },
}

impl SidecarError {
    /// True when the file is fine as far as this program can tell, and only cannot be used by it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Version(_))
    }
}

/// An open sidecar. Its head was read; everything else is read when it is asked for.
#[derive(Debug)]
pub struct Sidecar {
    file: Box<dyn Blob>,
    head: Head,
    /// Where the chunks end.
    body_end: u64,
    file_len: u64,
    digest: Digest,
}

fn read(file: &dyn Blob, at: u64, out: &mut [u8]) -> Result<(), SidecarError> {
    file.read_exact_at(at, out).map_err(SidecarError::Read)
}

impl Sidecar {
    /// Opens a file and reads its head.
    ///
    /// # Errors
    /// [`SidecarError`]. Damage behind the head is found by [`Sidecar::check`], or where it is read.
    pub fn open(path: &Path) -> Result<Self, SidecarError> {
        Self::from_blob(Box::new(Pooled::open(path).map_err(SidecarError::Read)?))
    }

    /// Takes a sidecar that is in memory.
    ///
    /// # Errors
    /// As [`Sidecar::open`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SidecarError> {
        Self::from_blob(Box::new(bytes))
    }

    /// The same of a file that is kept elsewhere.
    ///
    /// # Errors
    /// As [`Sidecar::open`].
    pub fn from_blob(file: Box<dyn Blob>) -> Result<Self, SidecarError> {
        let file_len = file.size();
        let end_at = file_len.checked_sub(END_LEN as u64).filter(|at| *at >= START_LEN);
        let end_at = end_at.ok_or(SidecarError::NotASidecar)?;
        let mut start = [0; START_LEN as usize];
        let mut end = [0; END_LEN];
        read(&*file, 0, &mut start)?;
        read(&*file, end_at, &mut end)?;
        if !start.starts_with(MAGIC) || !end.ends_with(END_MAGIC) {
            return Err(SidecarError::NotASidecar);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(&end[8..40]);
        let version = word(&start, 8).unwrap_or_default();
        if version != VERSION {
            // The digest stands at the same place in all versions: it tells a newer file from a damaged one.
            check_digest(&*file, file_len, &digest)?;
            return Err(SidecarError::Version(version));
        }
        let (len, sum) = (word(&end, 0).unwrap_or_default(), word(&end, 4).unwrap_or_default());
        let body_end = end_at.checked_sub(len.into()).filter(|at| *at >= START_LEN);
        let body_end =
            body_end.filter(|_| u64::from(len) <= MAX_HEAD_LEN).ok_or(SidecarError::HeadDamaged)?;
        let mut json = vec![0; len as usize];
        read(&*file, body_end, &mut json)?;
        if crc32fast::hash(&json) != sum {
            return Err(SidecarError::HeadDamaged);
        }
        let head = Head::parse(&json)?;
        Ok(Self { file, head, body_end, file_len, digest })
    }

    /// What it says about stream, point and files.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its own digest, by which the next point's sidecar names it.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Reads all of it: the digest, and every record.
    ///
    /// # Errors
    /// [`SidecarError::Digest`] when a byte was changed, [`SidecarError::Record`] for what no writer makes.
    pub fn check(&self) -> Result<(), SidecarError> {
        check_digest(&*self.file, self.file_len, &self.digest)?;
        self.blocks().try_for_each(|block| block.map(drop))?;
        self.runs().try_for_each(|run| run.map(drop))
    }

    /// The chunk that begins there; `None` behind the last one.
    pub(super) fn chunk_at(&self, at: u64) -> Result<Option<Chunk>, SidecarError> {
        let Some(room) = self.body_end.checked_sub(at).filter(|room| *room > 0) else { return Ok(None) };
        let wrong = || SidecarError::Record { at };
        let room = room.checked_sub(CHUNK_HEAD as u64).ok_or_else(wrong)?;
        let mut head = [0; CHUNK_HEAD];
        read(&*self.file, at, &mut head)?;
        let [kind @ .., _, _, _, _, _, _, _, _] = head;
        let (len, sum) = (word(&head, 4).unwrap_or_default(), word(&head, 8).unwrap_or_default());
        if u64::from(len) > room || len as usize > MAX_PAYLOAD {
            return Err(wrong());
        }
        Ok(Some(Chunk { at, kind, len, sum }))
    }

    /// What is in a chunk, as it was written.
    pub(super) fn payload(&self, chunk: &Chunk) -> Result<Vec<u8>, SidecarError> {
        let mut payload = vec![0; chunk.len as usize];
        read(&*self.file, chunk.payload_at(), &mut payload)?;
        let is_whole = crc32fast::hash(&payload) == chunk.sum;
        is_whole.then_some(payload).ok_or(SidecarError::Record { at: chunk.at })
    }

    /// Some bytes at the beginning of a chunk, which its checksum does not cover yet.
    pub(super) fn begin_of<const N: usize>(&self, chunk: &Chunk) -> Result<[u8; N], SidecarError> {
        let mut bytes = [0; N];
        if (chunk.len as usize) < N {
            return Err(SidecarError::Record { at: chunk.at });
        }
        read(&*self.file, chunk.payload_at(), &mut bytes)?;
        Ok(bytes)
    }

    /// The stream's blocks, in its order.
    pub fn blocks(&self) -> Blocks<'_> {
        Records { sidecar: self, cursor: Cursor::new() }
    }

    /// What is known of the disk's content, in disk order.
    pub fn runs(&self) -> Runs<'_> {
        Records { sidecar: self, cursor: Cursor::new() }
    }
}

/// A chunk, by its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) at: u64,
    pub(super) kind: [u8; 4],
    pub(super) len: u32,
    sum: u32,
}

impl Chunk {
    fn payload_at(&self) -> u64 {
        self.at + CHUNK_HEAD as u64
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.payload_at() + u64::from(self.len)
    }
}

fn check_digest(file: &dyn Blob, file_len: u64, want: &Digest) -> Result<(), SidecarError> {
    // Digest and magic are not part of it.
    let (mut at, end) = (0, file_len - 40);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_LEN.min(end as usize)];
    while at < end {
        let part = &mut buffer[..READ_LEN.min((end - at) as usize)];
        read(file, at, part)?;
        hasher.update(part);
        at += part.len() as u64;
    }
    if hasher.finalize().as_bytes() == want { Ok(()) } else { Err(SidecarError::Digest) }
}

/// What stands in chunks of one kind.
pub(crate) trait Record: Sized {
    const CHUNK: [u8; 4];

    /// Takes a payload apart. `floor` is where the next record may begin, on the disk and in the stream's file or, of
    /// runs, in granules. `None` for what no writer makes.
    fn read(payload: &[u8], floor: &mut (u64, u64), head: &Head) -> Option<Vec<Self>>;
}

impl Record for Block {
    const CHUNK: [u8; 4] = BLOCKS;

    fn read(payload: &[u8], floor: &mut (u64, u64), head: &Head) -> Option<Vec<Self>> {
        if payload.len() % BLOCK_LEN != 0 {
            return None;
        }
        let record = |bytes: &[u8]| {
            let block = bytes.try_into().ok().and_then(Self::parse)?;
            let stored_end = block.stored_at + u64::from(block.stored_len);
            let fits = block.disk().end <= head.granules.disk_size()
                && stored_end <= head.stream.size
                && block.start >= floor.0
                && block.stored_at >= floor.1;
            *floor = (block.disk().end, stored_end);
            fits.then_some(block)
        };
        payload.chunks_exact(BLOCK_LEN).map(record).collect()
    }
}

impl Record for Run {
    const CHUNK: [u8; 4] = RUNS;

    fn read(mut payload: &[u8], floor: &mut (u64, u64), head: &Head) -> Option<Vec<Self>> {
        let mut runs = Vec::new();
        while !payload.is_empty() {
            let run = Self::parse(&mut payload)?;
            let numbers = run.numbers();
            if numbers.start < floor.0 || numbers.end > head.granules.count() {
                return None;
            }
            floor.0 = numbers.end;
            runs.push(run);
        }
        Some(runs)
    }
}

/// A place among a sidecar's records of one kind.
#[derive(Debug)]
pub(crate) struct Cursor<R> {
    at: u64,
    ready: VecDeque<R>,
    floor: (u64, u64),
}

impl<R: Record> Cursor<R> {
    pub(crate) fn new() -> Self {
        Self { at: START_LEN, ready: VecDeque::new(), floor: (0, 0) }
    }

    /// The next record. There is none after an error.
    pub(crate) fn next(&mut self, sidecar: &Sidecar) -> Result<Option<R>, SidecarError> {
        while self.ready.is_empty() {
            let records = self.next_chunk(sidecar).and_then(|chunk| {
                let Some((at, payload)) = chunk else { return Ok(None) };
                let records = R::read(&payload, &mut self.floor, &sidecar.head);
                records.map(Some).ok_or(SidecarError::Record { at })
            });
            match records {
                Ok(Some(records)) => self.ready.extend(records),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.at = sidecar.body_end;
                    return Err(error);
                }
            }
        }
        Ok(self.ready.pop_front())
    }

    /// The next chunk of the kind, passing over others: its offset and payload.
    fn next_chunk(&mut self, sidecar: &Sidecar) -> Result<Option<(u64, Vec<u8>)>, SidecarError> {
        while let Some(chunk) = sidecar.chunk_at(self.at)? {
            self.at = chunk.end();
            if chunk.kind == R::CHUNK {
                return Ok(Some((chunk.at, sidecar.payload(&chunk)?)));
            }
        }
        Ok(None)
    }
}

/// Iterator over the records of one kind of a [`Sidecar`]. Ends after the first error.
#[derive(Debug)]
pub struct Records<'a, R> {
    sidecar: &'a Sidecar,
    cursor: Cursor<R>,
}

/// Iterator over the blocks of a [`Sidecar`].
pub type Blocks<'a> = Records<'a, Block>;

/// Iterator over the runs of a [`Sidecar`].
pub type Runs<'a> = Records<'a, Run>;

impl<R: Record> Iterator for Records<'_, R> {
    type Item = Result<R, SidecarError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.sidecar).transpose()
    }
}
