//! The golden backup sets, unpacked with their modification times, and hand-made streams.

use std::path::{Path, PathBuf};
use std::process::Command;
use vmstream::stream::{Compression, FRAME_HEADER_LEN, FrameHeader, FrameKind, StreamMeta};

/// Both sets in a folder of their own.
pub(crate) struct Golden {
    dir: tempfile::TempDir,
}

impl Golden {
    pub(crate) fn extract() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, tar) in [("lz4", "vmbackup-0.5.3-lz4.tar"), ("plain", "virtnbdbackup-2.47-plain.tar")] {
            let into = dir.path().join(name);
            std::fs::create_dir(&into).unwrap();
            let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(tar);
            let done = Command::new("tar").arg("xf").arg(&tar).arg("-C").arg(&into).status().unwrap();
            assert!(done.success(), "{}", tar.display());
        }
        Self { dir }
    }

    /// The same, with a flipped bit in what `vda` of the LZ4 chain has at `virtnbdbackup.2`.
    pub(crate) fn damaged() -> Self {
        let golden = Self::extract();
        damage(&golden.lz4().join("vda.inc.virtnbdbackup.2.data"));
        golden
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Two disks, level 4, a full and three increments.
    pub(crate) fn lz4(&self) -> PathBuf {
        self.root().join("lz4/gold1/202611")
    }

    /// A qcow2 and a raw disk, uncompressed, a full, an increment and a difference.
    pub(crate) fn plain(&self) -> PathBuf {
        self.root().join("plain/chain")
    }

    /// The same disks, copied while shut off.
    pub(crate) fn copy(&self) -> PathBuf {
        self.root().join("plain/copy")
    }

    /// Every stream of both sets: all data files but the raw copies.
    pub(crate) fn streams(&self) -> Vec<PathBuf> {
        let folders = [self.lz4(), self.plain(), self.copy()];
        let files = folders.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
        let mut streams: Vec<_> = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "data"))
            .filter(|path| path.file_name().unwrap() != "vdb.copy.data")
            .collect();
        streams.sort();
        streams
    }
}

/// Flips a bit in the middle of a file.
pub(crate) fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

pub(crate) fn data_header(start: u64, len: u64) -> [u8; FRAME_HEADER_LEN] {
    FrameHeader { kind: FrameKind::Data, start, len }.encode()
}

pub(crate) fn meta(virtual_size: u64, data_size: u64, compression: Option<Compression>) -> StreamMeta {
    StreamMeta {
        virtual_size,
        data_size,
        date: "2026-11-22T20:02:30.768021".to_owned(),
        disk_name: "vda".to_owned(),
        disk_format: "qcow2".to_owned(),
        checkpoint_name: "virtnbdbackup.0".to_owned(),
        compression,
        parent_checkpoint: String::new(),
        incremental: false,
        stream_version: StreamMeta::version_for(compression),
    }
}

/// An uncompressed stream around frames that were encoded by hand.
pub(crate) fn build_plain(virtual_size: u64, data_size: u64, frames: &[u8]) -> Vec<u8> {
    build(&meta(virtual_size, data_size, None), frames, None)
}

/// A compressed stream around frames and a trailer that were made by hand.
pub(crate) fn build_lz4(virtual_size: u64, data_size: u64, frames: &[u8], trailer: &str) -> Vec<u8> {
    build(&meta(virtual_size, data_size, Some(Compression::Lz4(1))), frames, Some(trailer))
}

/// A stream from its parts.
pub(crate) fn build(meta: &StreamMeta, frames: &[u8], trailer: Option<&str>) -> Vec<u8> {
    let json = meta.to_json();
    let mut bytes = FrameHeader { kind: FrameKind::Meta, start: 0, len: json.len() as u64 }.encode().to_vec();
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(frames);
    bytes.extend_from_slice(&FrameHeader { kind: FrameKind::Stop, start: 0, len: 0 }.encode());
    if let Some(trailer) = trailer {
        bytes.extend_from_slice(trailer.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        let comp = FrameHeader { kind: FrameKind::Comp, start: 0, len: trailer.len() as u64 };
        bytes.extend_from_slice(&comp.encode());
    }
    bytes
}
