//! Chains of one disk `vda`, encoded by hand in every form that a writer may choose, each with what the disk holds at every
//! point. Nothing of our own writer is used, so that a fault of it is not in both.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use vmstream::chain::PointId;
use vmstream::stream::checksum::adler32;

/// Content bytes of one piece of a long data frame.
const PIECE_LEN: usize = 32 << 20;

/// How the payloads of a stream are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Lz4(Lz4),
    Zstd,
}

/// The form of an LZ4 frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lz4 {
    pub(crate) linked: bool,
    /// 64, 256, 1024 or 4096 KiB.
    pub(crate) block_kib: u32,
    pub(crate) block_sums: bool,
    pub(crate) content_sum: bool,
    pub(crate) content_size: bool,
    /// Bytes that the encoder gets at once, and ends a block with; 0 for all.
    pub(crate) flush_len: usize,
}

/// What `vmbackup` makes.
pub(crate) const OURS: Lz4 = Lz4 {
    linked: false,
    block_kib: 256,
    block_sums: true,
    content_sum: false,
    content_size: true,
    flush_len: 0,
};

/// What virtnbdbackup makes.
pub(crate) const PEERS: Lz4 = Lz4 { linked: true, block_kib: 64, content_sum: true, ..OURS };

impl Lz4 {
    pub(crate) fn encode(self, content: &[u8]) -> Vec<u8> {
        let size = match self.block_kib {
            64 => lz4::BlockSize::Max64KB,
            256 => lz4::BlockSize::Max256KB,
            1024 => lz4::BlockSize::Max1MB,
            _ => lz4::BlockSize::Max4MB,
        };
        let mut builder = lz4::EncoderBuilder::new();
        builder.block_size(size).level(1).auto_flush(self.flush_len > 0);
        builder.block_mode(if self.linked { lz4::BlockMode::Linked } else { lz4::BlockMode::Independent });
        builder.block_checksum(if self.block_sums {
            lz4::liblz4::BlockChecksum::BlockChecksumEnabled
        } else {
            lz4::liblz4::BlockChecksum::NoBlockChecksum
        });
        builder.checksum(if self.content_sum {
            lz4::ContentChecksum::ChecksumEnabled
        } else {
            lz4::ContentChecksum::NoChecksum
        });
        if self.content_size {
            builder.content_size(content.len() as u64);
        }
        let mut encoder = builder.build(Vec::new()).unwrap();
        let flush_len = if self.flush_len == 0 { content.len().max(1) } else { self.flush_len };
        content.chunks(flush_len).for_each(|part| encoder.write_all(part).unwrap());
        let (stored, done) = encoder.finish();
        done.unwrap();
        stored
    }
}

/// A stream in the making, frames in disk order.
pub(crate) struct Stream {
    pub(crate) size: u64,
    pub(crate) incremental: bool,
    pub(crate) number: u32,
    coding: Coding,
    frames: Vec<u8>,
    trailer: Vec<String>,
    data_size: u64,
}

fn header(kind: &str, start: u64, len: u64) -> String {
    format!("{kind} {start:016x} {len:016x}\r\n")
}

impl Stream {
    pub(crate) fn new(number: u32, size: u64, incremental: bool, coding: Coding) -> Self {
        Self { size, incremental, number, coding, frames: Vec::new(), trailer: Vec::new(), data_size: 0 }
    }

    pub(crate) fn zero(&mut self, range: Range<u64>) {
        self.frames.extend(header("zero", range.start, range.end - range.start).bytes());
    }

    pub(crate) fn data(&mut self, start: u64, content: &[u8]) {
        self.frames.extend(header("data", start, content.len() as u64).bytes());
        self.data_size += content.len() as u64;
        let encode = |piece: &[u8]| match self.coding {
            Coding::Lz4(form) => form.encode(piece),
            Coding::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
                compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
                compressor.compress(piece).unwrap()
            }
            Coding::Plain => piece.to_vec(),
        };
        let pieces: Vec<_> = content.chunks(PIECE_LEN).map(encode).collect();
        let lens: Vec<_> = pieces.iter().map(|piece| piece.len().to_string()).collect();
        let total: usize = pieces.iter().map(Vec::len).sum();
        self.trailer.push(match content.len() >= PIECE_LEN {
            true => format!("{{\"{total}\": [{}]}}", lens.join(", ")),
            false => total.to_string(),
        });
        pieces.iter().for_each(|piece| self.frames.extend(piece));
        self.frames.extend(b"\r\n");
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let (compressed, method, version) = match self.coding {
            Coding::Plain => ("false", "lz4", 2),
            Coding::Lz4(_) => ("1", "lz4", 2),
            Coding::Zstd => ("1", "zstd", 3),
        };
        let parent = match self.number.checked_sub(1) {
            Some(before) if self.incremental => format!("virtnbdbackup.{before}"),
            _ => String::new(),
        };
        let meta = format!(
            "{{\"virtualSize\": {}, \"dataSize\": {}, \"date\": \"2026-11-22T20:02:27.003979\", \"diskName\": \"vda\", \
             \"diskFormat\": \"qcow2\", \"checkpointName\": \"virtnbdbackup.{}\", \"compressed\": {compressed}, \
             \"compressionMethod\": \"{method}\", \"parentCheckpoint\": \"{parent}\", \"incremental\": {}, \
             \"streamVersion\": {version}}}",
            self.size, self.data_size, self.number, self.incremental
        );
        let mut bytes = header("meta", 0, meta.len() as u64).into_bytes();
        bytes.extend(meta.bytes());
        bytes.extend(b"\r\n");
        bytes.extend(self.frames);
        bytes.extend(header("stop", 0, 0).bytes());
        if self.coding != Coding::Plain {
            let trailer = format!("[{}]", self.trailer.join(", "));
            bytes.extend(trailer.bytes());
            bytes.extend(b"\r\n");
            bytes.extend(header("comp", 0, trailer.len() as u64).bytes());
        }
        bytes
    }
}

/// A set in the making.
pub(crate) struct Made {
    dir: PathBuf,
    checksums: bool,
    names: Vec<String>,
    /// What the disk holds at each point.
    pub(crate) shadows: Vec<(PointId, Vec<u8>)>,
}

impl Made {
    pub(crate) fn new(dir: &Path, checksums: bool) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        Self { dir: dir.to_owned(), checksums, names: Vec::new(), shadows: Vec::new() }
    }

    /// Adds the next point of the chain.
    pub(crate) fn point(&mut self, stream: Stream, shadow: Vec<u8>) {
        let name = format!("virtnbdbackup.{}", self.names.len());
        let stem = if self.names.is_empty() { "vda.full".to_owned() } else { format!("vda.inc.{name}") };
        self.file(&stem, stream);
        self.shadows.push((name.parse().unwrap(), shadow));
        self.names.push(name);
        std::fs::write(self.dir.join("vm.cpt"), serde_json::to_string(&self.names).unwrap()).unwrap();
    }

    /// Adds a difference beside the chain.
    pub(crate) fn difference(&mut self, seconds: u64, stream: Stream, shadow: Vec<u8>) {
        self.file(&format!("vda.diff.{seconds}"), stream);
        self.shadows.push((format!("diff.{seconds}").parse().unwrap(), shadow));
    }

    fn file(&self, stem: &str, stream: Stream) {
        let end = if stream.coding == Coding::Zstd { "zstd" } else { "data" };
        let bytes = stream.finish();
        if self.checksums {
            let sum = adler32(&bytes).to_string();
            std::fs::write(self.dir.join(format!("{stem}.{end}.chksum")), sum).unwrap();
        }
        std::fs::write(self.dir.join(format!("{stem}.{end}")), bytes).unwrap();
    }
}
