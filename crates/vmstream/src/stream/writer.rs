//! Writes one stream, frames in order.
//!
//! The `meta` frame stands first and names the sum of all data, which is known last: its room is reserved,
//! padded with blanks (JSON does not mind), and filled in at the end.

use std::fs::File;
use std::io;
use std::path::Path;

use super::checksum::{adler32, combine};
use super::frame::{CRLF, FRAME_HEADER_LEN, FrameHeader, FrameKind};
use super::meta::StreamMeta;
use super::output::Output;
use crate::sidecar::{Digest, StoredSums};

/// The most plain bytes of a data frame that this writer makes: shorter than the NBD maximum, so that its trailer
/// entry is a plain number, which every reader understands.
pub const MAX_FRAME_LEN: u64 = super::codec::MAX_PIECE_LEN - 1;

/// The most plain bytes of a data frame where nobody asks for another number: enough to be dense and quick, so few that
/// memory holds many.
pub const FRAME_LEN: u64 = 2 << 20;

/// Bytes of data that a stream holds even where no content needs them: old readers skip a stream without data.
pub const LEAST_DATA: u64 = 512;

/// A finished stream, synced to the disk under the name it was created with.
#[derive(Debug)]
pub struct FinishedStream {
    /// The open file, for setting its times.
    pub file: File,
    /// Bytes of the file.
    pub size: u64,
    /// Adler-32 of the file, as the `.chksum` file states it.
    pub adler32: u32,
    /// What a sidecar says of it: BLAKE3 of its bytes, each data frame's payload replaced by its own BLAKE3, the meta
    /// frame last.
    pub digest: Digest,
    /// Sum of the lengths of all data frames.
    pub data_size: u64,
    /// Number of data frames.
    pub data_frames: u64,
}

/// One stream under construction.
pub struct StreamWriter {
    output: Output,
    meta: StreamMeta,
    meta_len: usize,
    /// Adler-32 of everything after the meta frame.
    body: u32,
    digest: blake3::Hasher,
    /// Stored length of each data frame, for the trailer. 8 bytes a frame.
    stored_lens: Vec<u64>,
}

impl StreamWriter {
    /// Creates the file. `meta.data_size` is ignored; `meta.compression` decides the form of the stream.
    pub fn create(path: &Path, meta: StreamMeta) -> io::Result<Self> {
        let widest = StreamMeta { data_size: u64::MAX, ..meta.clone() };
        Self::with_room(path, meta, widest.to_json().len())
    }

    /// Creates the file of a stream that will hold `meta.data_size` bytes of data: its meta text has no blanks.
    pub fn create_exact(path: &Path, meta: StreamMeta) -> io::Result<Self> {
        let meta_len = meta.to_json().len();
        Self::with_room(path, meta, meta_len)
    }

    fn with_room(path: &Path, meta: StreamMeta, meta_len: usize) -> io::Result<Self> {
        let mut output = Output::create(path)?;
        output.append(&vec![b' '; FRAME_HEADER_LEN + meta_len + CRLF.len()])?;
        let meta = StreamMeta { data_size: 0, ..meta };
        Ok(Self {
            output,
            meta,
            meta_len,
            body: adler32(b""),
            digest: blake3::Hasher::new(),
            stored_lens: Vec::new(),
        })
    }

    /// Bytes of the file so far.
    pub fn size(&self) -> u64 {
        self.output.len()
    }

    /// Bytes of data so far.
    pub fn data_size(&self) -> u64 {
        self.meta.data_size
    }

    /// Appends a data frame: `plain_len` bytes of the disk from `start` on, stored as `stored` (a compressed frame, or
    /// the bytes themselves in an uncompressed stream).
    pub fn data(&mut self, start: u64, plain_len: u64, stored: &[u8]) -> io::Result<()> {
        self.data_with_sums(start, plain_len, stored, &StoredSums::of(stored)).map(drop)
    }

    /// The same with the sums of `stored` made before, perhaps on another thread. Returns where in the file it lies.
    pub fn data_with_sums(
        &mut self,
        start: u64,
        plain_len: u64,
        stored: &[u8],
        sums: &StoredSums,
    ) -> io::Result<u64> {
        debug_assert!(plain_len <= MAX_FRAME_LEN);
        self.header(FrameKind::Data, start, plain_len)?;
        let stored_at = self.output.len();
        self.body = combine(self.body, sums.adler32, stored.len() as u64);
        self.digest.update(&sums.digest);
        self.output.append(stored)?;
        self.put(CRLF)?;
        self.meta.data_size += plain_len;
        self.stored_lens.push(stored.len() as u64);
        Ok(stored_at)
    }

    /// Appends a zero frame. Readers start from a zeroed image and skip it.
    pub fn zero(&mut self, start: u64, len: u64) -> io::Result<()> {
        self.header(FrameKind::Zero, start, len)
    }

    /// Ends the stream and fills in the meta frame. Whoever takes the file makes it durable.
    pub fn finish(mut self) -> io::Result<FinishedStream> {
        self.header(FrameKind::Stop, 0, 0)?;
        if self.meta.compression.is_some() {
            self.trailer()?;
        }
        let size = self.output.len();
        let json = self.meta.to_padded_json(self.meta_len).unwrap_or_else(|| self.meta.to_json());
        let header = FrameHeader { kind: FrameKind::Meta, start: 0, len: self.meta_len as u64 };
        let head = [&header.encode()[..], &json, CRLF].concat();
        let file = self.output.finish(&head)?;
        self.digest.update(&head);
        Ok(FinishedStream {
            file,
            size,
            adler32: combine(adler32(&head), self.body, size - head.len() as u64),
            digest: self.digest.finalize().into(),
            data_size: self.meta.data_size,
            data_frames: self.stored_lens.len() as u64,
        })
    }

    /// `[n, n, …]` as `json.dumps` prints it, in pieces: a million frames make eight megabytes.
    fn trailer(&mut self) -> io::Result<()> {
        let start = self.output.len();
        let lens = std::mem::take(&mut self.stored_lens);
        self.put(b"[")?;
        for (i, len) in lens.iter().enumerate() {
            let text = if i == 0 { len.to_string() } else { format!(", {len}") };
            self.put(text.as_bytes())?;
        }
        self.put(b"]")?;
        let len = self.output.len() - start;
        self.stored_lens = lens;
        self.put(CRLF)?;
        self.header(FrameKind::Comp, 0, len)
    }

    fn header(&mut self, kind: FrameKind, start: u64, len: u64) -> io::Result<()> {
        self.put(&FrameHeader { kind, start, len }.encode())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.body = combine(self.body, adler32(bytes), bytes.len() as u64);
        self.digest.update(bytes);
        self.output.append(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Compression;
    use super::*;

    fn meta(compression: Option<Compression>) -> StreamMeta {
        StreamMeta {
            virtual_size: 1 << 20,
            data_size: 0,
            date: "2026-11-22T20:02:27.003979".into(),
            disk_name: "vda".into(),
            disk_format: "qcow2".into(),
            checkpoint_name: "virtnbdbackup.0".into(),
            compression,
            parent_checkpoint: String::new(),
            incremental: false,
            stream_version: 2,
        }
    }

    #[test]
    fn a_plain_stream_is_frames_with_the_sum_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vda.full.data.partial");
        let mut writer = StreamWriter::create(&path, meta(None)).unwrap();
        writer.data(0, 4, b"abcd").unwrap();
        writer.zero(4, 512).unwrap();
        writer.data(1024, 2, b"ef").unwrap();
        let done = writer.finish().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len() as u64, adler32(&bytes)), (done.size, done.adler32));
        assert_eq!((done.data_size, done.data_frames), (6, 2));
        let head: &[u8; FRAME_HEADER_LEN] = bytes[..FRAME_HEADER_LEN].try_into().unwrap();
        let meta_end = FRAME_HEADER_LEN + usize::try_from(FrameHeader::parse(head).unwrap().len).unwrap();
        let read_back = StreamMeta::parse(&bytes[FRAME_HEADER_LEN..meta_end]).unwrap();
        assert_eq!(read_back, StreamMeta { data_size: 6, ..meta(None) });
        let want = b"\r\ndata 0000000000000000 0000000000000004\r\nabcd\r\n\
            zero 0000000000000004 0000000000000200\r\n\
            data 0000000000000400 0000000000000002\r\nef\r\n\
            stop 0000000000000000 0000000000000000\r\n";
        assert_eq!(String::from_utf8_lossy(&bytes[meta_end..]), String::from_utf8_lossy(want));
    }

    #[test]
    fn a_compressed_stream_ends_with_its_trailer() {
        let dir = tempfile::tempdir().unwrap();
        for (frames, want) in [(0, "[]"), (2, "[3, 3]")] {
            let path = dir.path().join("x");
            let mut writer = StreamWriter::create(&path, meta(Some(Compression::Lz4(1)))).unwrap();
            for i in 0..frames {
                writer.data(i * 10, 10, b"lz4").unwrap();
            }
            writer.finish().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let tail = format!(
                "stop 0000000000000000 0000000000000000\r\n{want}\r\ncomp 0000000000000000 {:016x}\r\n",
                want.len()
            );
            assert!(bytes.ends_with(tail.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
