//! The hot pieces of reading and writing streams, in bytes per second: `cargo bench -p vmstream --bench data_path`.
//!
//! Names are paths: what, how, on which data. Input comes from fixed numbers, so runs can be compared.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::io::Write;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use random::Random;
use vmstream::chain::{BackupSet, CheckpointName, cpt};
use vmstream::disk::{Disk, DiskOptions};
use vmstream::restore::{BlockMap, Layer, extract_to, is_zero};
use vmstream::sidecar::{Granules, Head, PlainSums, Recorder, StoredSums, StreamIdentity};
use vmstream::stream::checksum::{Adler32, adler32, combine};
use vmstream::stream::writer::{self, StreamWriter};
use vmstream::stream::{
    Compression, FRAME_HEADER_LEN, FrameHeader, FrameKind, MAX_PIECE_LEN, StreamMeta, TrailerEntry, codec,
    trailer,
};
use vmstream::verify::{Depth, DiskDigest, VerifyOptions, verify_set};

/// Bytes of one frame of the engine.
const FRAME_LEN: usize = writer::FRAME_LEN as usize;

/// Bytes that shrink to about half, as those of file systems do: noise and repeated words in turn.
fn mixed(len: usize) -> Vec<u8> {
    let mut random = Random::from_seed(0x2545_f491_4f6c_dd1d);
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        bytes.extend(random.bytes(2048));
        for _ in 0..64 {
            bytes.extend_from_slice(format!("name{:08} = value of it\n", random.next_u64() >> 40).as_bytes());
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
        let meta = StreamMeta { compression: None, ..meta(number, disk_len) };
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

/// A block of content as it is stored, with its checksums.
struct Block {
    plain: Vec<u8>,
    stored: Vec<u8>,
    sums: (PlainSums, StoredSums),
}

impl Block {
    fn new(plain: Vec<u8>, granules: Granules) -> Self {
        let mut stored = Vec::new();
        codec::compress(&plain, LZ4, &mut stored).unwrap();
        let sums = (PlainSums::of(0, &plain, granules), StoredSums::of(&stored));
        Self { plain, stored, sums }
    }
}

fn meta(number: u64, disk_len: u64) -> StreamMeta {
    StreamMeta {
        virtual_size: disk_len,
        data_size: 0,
        date: String::new(),
        disk_name: "vda".into(),
        disk_format: "qcow2".into(),
        checkpoint_name: format!("virtnbdbackup.{number}"),
        compression: Some(LZ4),
        parent_checkpoint: number.checked_sub(1).map(|n| format!("virtnbdbackup.{n}")).unwrap_or_default(),
        incremental: number > 0,
        stream_version: 2,
    }
}

/// A set with sidecars: for each point where its frames begin, and what is in them. A full tells of every byte.
fn set(dir: &Path, disk_len: u64, points: &[Vec<(u64, &Block)>]) -> BackupSet {
    let (mut names, mut parent) = (Vec::new(), None);
    for (number, frames) in (0..).zip(points) {
        let name = CheckpointName::new(number);
        let stem = if number == 0 { "vda.full".into() } else { format!("vda.inc.{name}") };
        let path = |end: &str| dir.join(format!("{stem}.{end}"));
        let meta = meta(number.into(), disk_len);
        let mut recorder = Recorder::create(&path("data"), &path("idx"), meta).unwrap();
        let granules = recorder.granules();
        let mut at = 0;
        for (start, block) in frames {
            if number == 0 && *start > at {
                recorder.zero_content(at, start - at).unwrap();
                recorder.zero_frame(at, start - at).unwrap();
            }
            let len = block.plain.len() as u64;
            recorder.data(*start, len, &block.stored, (&block.sums.0, &block.sums.1)).unwrap();
            at = start + len;
        }
        if number == 0 && at < disk_len {
            recorder.zero_content(at, disk_len - at).unwrap();
            recorder.zero_frame(at, disk_len - at).unwrap();
        }
        let (done, writer) = recorder.finish().unwrap();
        let stream = StreamIdentity {
            name: format!("{stem}.data"),
            size: done.size,
            adler32: Some(done.adler32),
            digest: Some(done.digest),
        };
        let head = Head {
            writer: "bench".into(),
            stream,
            target: "vda".into(),
            point: name.to_string(),
            parent: number.checked_sub(1).map(|n| CheckpointName::new(n).to_string()),
            parent_sidecar: parent,
            taken_seconds: 0,
            granules,
            disks: None,
            left_out: Vec::new(),
            files: Vec::new(),
        };
        parent = Some(writer.finish(&head).unwrap().digest);
        std::fs::write(path("data.chksum"), done.adler32.to_string()).unwrap();
        names.push(name);
    }
    std::fs::write(dir.join("vm.cpt"), cpt::encode(&names)).unwrap();
    BackupSet::open(dir).unwrap()
}

/// A chain of 30 points of a disk of 1 TiB, a tenth of it written.
fn disk_open(c: &mut Criterion) {
    const DISK_LEN: u64 = 1 << 40;
    let dir = tempfile::tempdir().unwrap();
    // Content that takes little room: what is opened is as large as with any other.
    let block = Block::new(vec![7; FRAME_LEN], Granules::of_disk(DISK_LEN));
    let frames = |step: u64, from: u64| (from << 21..DISK_LEN).step_by((step << 21) as usize);
    let points: Vec<Vec<_>> = (0..30)
        .map(|point| match point {
            0 => frames(10, 0).map(|at| (at, &block)).collect(),
            _ => frames(1000, point).map(|at| (at, &block)).collect(),
        })
        .collect();
    let set = set(dir.path(), DISK_LEN, &points);
    let (vda, point) = ("vda".parse().unwrap(), set.newest().unwrap().id);
    let mut group = c.benchmark_group("disk");
    group.sample_size(10);
    group.bench_function("open/30_points/1TiB", |b| {
        b.iter(|| Disk::open(&set, &vda, point, DiskOptions::default(), &|_| ()).unwrap().size());
    });
    group.finish();
    println!("the most memory so far: {}", peak());
}

/// The most memory that this process had.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned()
}

fn disk_read(c: &mut Criterion) {
    const DISK_LEN: u64 = 256 << 20;
    let dir = tempfile::tempdir().unwrap();
    let granules = Granules::of_disk(DISK_LEN);
    let content = mixed(DISK_LEN as usize);
    let blocks: Vec<_> =
        content.chunks(FRAME_LEN).map(|plain| Block::new(plain.to_vec(), granules)).collect();
    let frames = (0..DISK_LEN).step_by(FRAME_LEN).zip(&blocks).collect();
    let ours = dir.path().join("ours");
    std::fs::create_dir(&ours).unwrap();
    let ours = set(&ours, DISK_LEN, &[frames]);
    let linked = dir.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    let linked = linked_set(&linked, &content);
    let vda = "vda".parse().unwrap();
    let disk = |set: &BackupSet, content_bytes| {
        let options = DiskOptions { content_bytes, ..DiskOptions::default() };
        Disk::open(set, &vda, set.newest().unwrap().id, options, &|_| ()).unwrap()
    };
    let mut group = c.benchmark_group("disk");
    let mut random = Random::from_seed(0x2545_f491_4f6c_dd1d);
    let mut place = || random.below(DISK_LEN >> 12) << 12;
    let mut out = vec![0; 4096];
    let (cold, warm) = (disk(&ours, 0), disk(&ours, 2 * DISK_LEN as usize));
    group.bench_function("read_4KiB/cold", |b| b.iter(|| cold.read_at(place(), &mut out).unwrap()));
    for at in (0..DISK_LEN).step_by(4096) {
        warm.read_at(at, &mut out).unwrap();
    }
    group.bench_function("read_4KiB/kept", |b| b.iter(|| warm.read_at(place(), &mut out).unwrap()));
    group.throughput(Throughput::Bytes(DISK_LEN)).sample_size(10);
    let workers = std::thread::available_parallelism().unwrap();
    for (name, set) in [("ours", &ours), ("linked_32MiB", &linked)] {
        let point = set.newest().unwrap().id;
        group.bench_function(format!("sequential/{name}/extract"), |b| {
            b.iter(|| extract_to(set, &vda, point, &mut std::io::sink(), workers, &()).unwrap());
        });
        let disk = disk(set, DiskOptions::default().content_bytes);
        group.bench_function(format!("sequential/{name}/disk"), |b| {
            b.iter(|| disk.copy_to(0..DISK_LEN, &mut std::io::sink(), workers, &()).unwrap());
        });
    }
    group.finish();
}

/// What a deep look costs beside the default one: a full, and increments of scattered small writes.
fn verify(c: &mut Criterion) {
    const FULL_LEN: u64 = 256 << 20;
    const SPARSE_LEN: u64 = 16 << 30;
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let granules = Granules::of_disk(FULL_LEN);
    let content = mixed(FULL_LEN as usize);
    let blocks: Vec<_> =
        content.chunks(FRAME_LEN).map(|plain| Block::new(plain.to_vec(), granules)).collect();
    let full = (0..FULL_LEN).step_by(FRAME_LEN).zip(&blocks).collect();
    let full = set(&folder("full"), FULL_LEN, &[full]);
    let block = Block::new(content[..4096].to_vec(), Granules::of_disk(SPARSE_LEN));
    let mut random = Random::from_seed(0x2545_f491_4f6c_dd1d);
    let points: Vec<Vec<_>> = (0..30)
        .map(|_| {
            (0..SPARSE_LEN).step_by(8 << 20).map(|at| (at + (random.below(128) << 16), &block)).collect()
        })
        .collect();
    let scattered = set(&folder("scattered"), SPARSE_LEN, &points);
    let mut group = c.benchmark_group("verify");
    group.sample_size(10);
    let workers = std::thread::available_parallelism().unwrap();
    for (name, set) in [("full/256MiB", &full), ("scattered/30_points/16GiB", &scattered)] {
        let looked = verify_set(set, VerifyOptions { depth: Depth::Deep, workers }, &()).digests;
        let is_right = |found: &DiskDigest| found.checked.as_ref().is_some_and(|of| of.wrong.is_empty());
        assert!(looked.len() == set.points.len() && looked.iter().all(is_right), "{name}: {looked:?}");
        for (depth, look) in [("content", Depth::Content), ("deep", Depth::Deep)] {
            group.bench_function(format!("{name}/{depth}"), |b| {
                b.iter(|| verify_set(set, VerifyOptions { depth: look, workers }, &()).verdict());
            });
        }
    }
    group.finish();
}

/// A set as virtnbdbackup makes it: one frame of all, in LZ4 frames of 32 MiB whose blocks need those before them.
fn linked_set(dir: &Path, content: &[u8]) -> BackupSet {
    let mut stored = Vec::new();
    let lens: Vec<u64> = content
        .chunks(MAX_PIECE_LEN as usize)
        .map(|piece| {
            let before = stored.len();
            let mut encoder = lz4::EncoderBuilder::new()
                .block_mode(lz4::BlockMode::Linked)
                .block_size(lz4::BlockSize::Max64KB)
                .block_checksum(lz4::liblz4::BlockChecksum::BlockChecksumEnabled)
                .level(1)
                .build(&mut stored)
                .unwrap();
            encoder.write_all(piece).unwrap();
            encoder.finish().1.unwrap();
            (stored.len() - before) as u64
        })
        .collect();
    let json = StreamMeta { data_size: content.len() as u64, ..meta(0, content.len() as u64) }.to_json();
    let header = |kind, start, len| FrameHeader { kind, start, len }.encode();
    let trailer = trailer::encode(&[TrailerEntry::Pieces(lens)]);
    let bytes = [
        &header(FrameKind::Meta, 0, json.len() as u64)[..],
        &json,
        b"\r\n",
        &header(FrameKind::Data, 0, content.len() as u64),
        &stored,
        b"\r\n",
        &header(FrameKind::Stop, 0, 0),
        &trailer,
        b"\r\n",
        &header(FrameKind::Comp, 0, trailer.len() as u64),
    ]
    .concat();
    std::fs::write(dir.join("vda.full.data.chksum"), adler32(&bytes).to_string()).unwrap();
    std::fs::write(dir.join("vda.full.data"), bytes).unwrap();
    std::fs::write(dir.join("vm.cpt"), cpt::encode(&[CheckpointName::new(0)])).unwrap();
    BackupSet::open(dir).unwrap()
}

criterion_group!(benches, frames, zeros, compression, checksums, block_map, disk_open, disk_read, verify);
criterion_main!(benches);
