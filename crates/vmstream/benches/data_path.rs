//! The hot pieces of reading and writing streams, in bytes per second: `cargo bench -p vmstream --bench data_path`.
//!
//! Names are paths: what, how, on which data. Input comes from fixed numbers, so runs can be compared.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vmstream::restore::{BlockMap, Layer, is_zero};
use vmstream::stream::checksum::{Adler32, adler32, combine};
use vmstream::stream::writer::{self, StreamWriter};
use vmstream::stream::{Compression, FRAME_HEADER_LEN, FrameHeader, FrameKind, StreamMeta, codec};

/// Bytes of one frame of the engine.
const FRAME_LEN: usize = writer::FRAME_LEN as usize;

/// Bytes that shrink to about half, as those of file systems do: noise and repeated words in turn.
fn mixed(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        for _ in 0..256 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        for _ in 0..64 {
            bytes.extend_from_slice(format!("name{:08} = value of it\n", state >> 40).as_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn frames(c: &mut Criterion) {
    const COUNT: u64 = 1000;
    let header = |at: u64| FrameHeader { kind: FrameKind::Data, start: at << 21, len: 1 << 21 };
    let coded: Vec<_> = (0..COUNT).map(|at| header(at).encode()).collect();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(COUNT * FRAME_HEADER_LEN as u64));
    group.bench_function("encode", |b| {
        b.iter(|| (0..COUNT).map(|at| black_box(header(at)).encode()[20]).fold(0, |all, one| all ^ one));
    });
    group.bench_function("parse", |b| {
        b.iter(|| coded.iter().map(|bytes| FrameHeader::parse(black_box(bytes)).unwrap().start).sum::<u64>());
    });
    group.finish();
}

fn zeros(c: &mut Criterion) {
    let blank = vec![0u8; FRAME_LEN];
    let mut late = blank.clone();
    late[FRAME_LEN - 1] = 1;
    let mut group = c.benchmark_group("zero");
    group.throughput(Throughput::Bytes(FRAME_LEN as u64));
    group.bench_function("2MiB/blank", |b| b.iter(|| is_zero(black_box(&blank))));
    group.bench_function("2MiB/last_byte", |b| b.iter(|| is_zero(black_box(&late))));
    group.finish();
}

const LZ4: Compression = Compression::Lz4(1);
const ZSTD: Compression = Compression::Zstd(1);

fn compression(c: &mut Criterion) {
    let plain = mixed(FRAME_LEN);
    let (mut stored, mut out) = (Vec::new(), Vec::new());
    for (compression, levels) in
        [(LZ4, [1, 2, 4].map(Compression::Lz4)), (ZSTD, [1, 3, 9].map(Compression::Zstd))]
    {
        let mut group = c.benchmark_group(compression.method());
        group.throughput(Throughput::Bytes(FRAME_LEN as u64)).sample_size(20);
        for compression in levels {
            group.bench_function(format!("compress/level_{}/2MiB", compression.level()), |b| {
                b.iter(|| {
                    stored.clear();
                    codec::compress(black_box(&plain), compression, &mut stored).unwrap()
                });
            });
        }
        stored.clear();
        codec::compress(&plain, compression, &mut stored).unwrap();
        let decompress = if compression == ZSTD { codec::decompress_zstd } else { codec::decompress_lz4 };
        group.bench_function("decompress/2MiB", |b| {
            b.iter(|| decompress(black_box(&stored), FRAME_LEN, &mut out).unwrap());
        });
        group.finish();
    }
}

fn checksums(c: &mut Criterion) {
    let bytes = mixed(FRAME_LEN);
    let mut group = c.benchmark_group("checksum");
    group.throughput(Throughput::Bytes(FRAME_LEN as u64));
    group.bench_function("adler32/2MiB", |b| b.iter(|| adler32(black_box(&bytes))));
    group.bench_function("crc32/2MiB", |b| b.iter(|| crc32fast::hash(black_box(&bytes))));
    group.bench_function("blake3/2MiB", |b| b.iter(|| blake3::hash(black_box(&bytes))));
    let parts: Vec<_> = bytes.chunks(4096).map(|part| (adler32(part), part.len() as u64)).collect();
    group.bench_function("adler32_combine/4KiB_parts", |b| {
        let none = Adler32::new().finish();
        b.iter(|| black_box(&parts).iter().fold(none, |sum, (part, len)| combine(sum, *part, *len)));
    });
    group.finish();
}

/// A full and increments of it, each with a block of 4 KiB in every 64.
fn chain(dir: &Path, disk_len: u64, increments: u64) -> Vec<Layer> {
    let block = mixed(4096);
    let layer = |number: u64| {
        let meta = StreamMeta {
            virtual_size: disk_len,
            data_size: 0,
            date: String::new(),
            disk_name: "vda".into(),
            disk_format: "qcow2".into(),
            checkpoint_name: format!("virtnbdbackup.{number}"),
            compression: None,
            parent_checkpoint: String::new(),
            incremental: number > 0,
            stream_version: 2,
        };
        let path = dir.join(number.to_string());
        let mut writer = StreamWriter::create(&path, meta).unwrap();
        for start in (4096 * number..disk_len).step_by(65536) {
            writer.data(start, 4096, &block).unwrap();
        }
        writer.finish().unwrap();
        Layer::open(path).unwrap()
    };
    (0..=increments).map(layer).collect()
}

fn block_map(c: &mut Criterion) {
    const DISK_LEN: u64 = 32 << 20;
    let dir = tempfile::tempdir().unwrap();
    let layers = chain(dir.path(), DISK_LEN, 4);
    let mut group = c.benchmark_group("block_map");
    group.throughput(Throughput::Bytes(DISK_LEN)).sample_size(20);
    group.bench_function("full_and_4_increments/512_frames_each", |b| {
        b.iter(|| BlockMap::new(black_box(&layers)).map(|segment| segment.unwrap().disk.end).max());
    });
    group.finish();
}

criterion_group!(benches, frames, zeros, compression, checksums, block_map);
criterion_main!(benches);
