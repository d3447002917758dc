//! Random chains against a shadow disk: a plain array that every stream is also applied to, byte by byte.

use crate::golden::{build, meta};
use crate::program::wait_until_free;
use random::Random;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, Coverage, PointId, SetProblem, StreamSuffix};
use vmstream::restore::extract::extract_layers;
use vmstream::restore::{BlockMap, ExtractOptions, Format, Layer, Source, Units, extract_to};
use vmstream::stream::{Compression, FrameHeader, FrameKind, MAX_PIECE_LEN, TrailerEntry, codec, trailer};
use vmstream::verify::{Depth, VerifyOptions, verify_set};

const LZ4: Option<Compression> = Some(Compression::Lz4(1));

/// Streams of one chain may differ in it.
fn any_compression(random: &mut Random) -> Option<Compression> {
    [None, LZ4, Some(Compression::Zstd(1))][random.below(3) as usize]
}

/// A stream in the making.
struct Maker {
    number: u32,
    size: u64,
    incremental: bool,
    compression: Option<Compression>,
    frames: Vec<u8>,
    entries: Vec<TrailerEntry>,
    data_size: u64,
}

impl Maker {
    fn new(size: u64, incremental: bool, compression: Option<Compression>) -> Self {
        Self {
            number: 0,
            size,
            incremental,
            compression,
            frames: Vec::new(),
            entries: Vec::new(),
            data_size: 0,
        }
    }

    fn zero(&mut self, start: u64, len: u64) {
        self.frames.extend_from_slice(&FrameHeader { kind: FrameKind::Zero, start, len }.encode());
    }

    fn data(&mut self, start: u64, content: &[u8]) {
        let header = FrameHeader { kind: FrameKind::Data, start, len: content.len() as u64 };
        self.frames.extend_from_slice(&header.encode());
        self.data_size += header.len;
        if let Some(compression) = self.compression {
            let lens: Vec<u64> = content
                .chunks(MAX_PIECE_LEN as usize)
                .map(|piece| codec::compress(piece, compression, &mut self.frames).unwrap() as u64)
                .collect();
            let pieces = header.len >= MAX_PIECE_LEN;
            self.entries.push(if pieces { TrailerEntry::Pieces(lens) } else { TrailerEntry::Plain(lens[0]) });
        } else {
            self.frames.extend_from_slice(content);
        }
        self.frames.extend_from_slice(b"\r\n");
    }

    fn write(self, path: PathBuf) -> Layer {
        let mut meta = meta(self.size, self.data_size, self.compression);
        meta.incremental = self.incremental;
        meta.checkpoint_name = format!("virtnbdbackup.{}", self.number);
        if self.incremental && self.number > 0 {
            meta.parent_checkpoint = format!("virtnbdbackup.{}", self.number - 1);
        }
        let trailer = String::from_utf8(trailer::encode(&self.entries)).unwrap();
        let bytes = build(&meta, &self.frames, self.compression.map(|_| trailer.as_str()));
        std::fs::write(&path, bytes).unwrap();
        let layer = Layer::open(path).unwrap();
        layer.stream.check_ends().unwrap();
        layer
    }
}

/// A random stream, applied to the shadow too.
fn random_stream(random: &mut Random, shadow: &mut Vec<u8>, alone: bool, path: PathBuf) -> Layer {
    let size = if random.below(4) == 0 { 1 + random.below(60_000) } else { (shadow.len() as u64).max(1) };
    shadow.resize(size as usize, 0);
    let mut maker = Maker::new(size, !alone, any_compression(random));
    let mut at = 0;
    while at < size {
        let len = (1 + random.below(9000)).min(size - at);
        let range = at as usize..(at + len) as usize;
        match random.below(4) {
            0 => {
                maker.zero(at, len);
                if alone {
                    shadow[range].fill(0);
                }
            }
            1 | 2 => {
                let fill = random.below(3) as u8 * 17;
                let content: Vec<u8> =
                    (0..len).map(|i| if i % 5000 < 4500 { fill } else { i as u8 }).collect();
                maker.data(at, &content);
                shadow[range].copy_from_slice(&content);
            }
            _ => {}
        }
        at += len;
    }
    maker.write(path)
}

fn extracted(layers: &[Layer], dir: &Path, workers: usize) -> Vec<u8> {
    let out = dir.join("out.raw");
    let options = ExtractOptions {
        replace: true,
        format: Format::Raw,
        check: true,
        workers: NonZeroUsize::new(workers).unwrap(),
    };
    wait_until_free(&out);
    extract_layers(layers, &out, options, &()).unwrap();
    std::fs::read(out).unwrap()
}

#[test]
fn any_chain_equals_its_shadow_at_every_point() {
    let mut random = Random::from_seed(0x5eed_0001_0002_0003);
    for round in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let (mut shadow, mut layers) = (vec![0; 40_001], Vec::new());
        for number in 0..1 + random.below(7) {
            // A full may also stand inside a chain.
            let alone = number == 0 || random.below(5) == 0;
            let path = dir.path().join(format!("{number}.data"));
            layers.push(random_stream(&mut random, &mut shadow, alone, path));
            let workers = 1 + random.below(3) as usize;
            assert!(extracted(&layers, dir.path(), workers) == shadow, "round {round}, stream {number}");
        }
        map_is_complete(&layers, shadow.len() as u64);
    }
}

/// Segments cover the disk without gaps; each piece comes in one unit; data lies inside the coverage.
fn map_is_complete(layers: &[Layer], size: u64) {
    let paths: Vec<_> = layers.iter().map(|layer| &layer.path).collect();
    let coverage = Coverage::of_streams(&paths).unwrap();
    let mut at = 0;
    for segment in BlockMap::new(layers) {
        let segment = segment.unwrap();
        assert_eq!(segment.disk.start, at);
        at = segment.disk.end;
        if let Source::Piece { .. } = segment.source {
            let covered: u64 =
                coverage.intersect(segment.disk.clone()).map(|part| part.end - part.start).sum();
            assert_eq!(covered, segment.disk.end - segment.disk.start);
        }
    }
    assert_eq!(at, size);
    let mut seen: Vec<_> =
        Units::new(layers).map(|unit| unit.unwrap()).map(|u| (u.layer, u.piece.stored_at)).collect();
    let units = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), units, "a piece came twice");
}

#[test]
fn frames_of_many_pieces_are_cut_at_32_mib() {
    let dir = tempfile::tempdir().unwrap();
    let size = 2 * MAX_PIECE_LEN + 70_001;
    let mut shadow: Vec<u8> = (0..size).map(|at| (at / 1_000_003 + at % 7) as u8).collect();
    let mut full = Maker::new(size, false, LZ4);
    full.data(0, &shadow);
    let mut increment = Maker::new(size, true, LZ4);
    // Across the border of two pieces, and one zeroed range that old readers need as data.
    let over = MAX_PIECE_LEN as usize - 5000..MAX_PIECE_LEN as usize + 5000;
    shadow[over.clone()].fill(0);
    increment.data(over.start as u64, &shadow[over]);
    let layers = [full.write(dir.path().join("full.data")), increment.write(dir.path().join("inc.data"))];
    assert!(extracted(&layers, dir.path(), 2) == shadow);
    let out = std::fs::metadata(dir.path().join("out.raw")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&out) * 512 < size, "the zeroed range is a hole");
}

#[test]
fn placeholders_count_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // With the size of the disk, or none.
    for placeholder_size in [5000, 4000, 0] {
        let placeholder = Maker::new(placeholder_size, false, LZ4).write(dir.path().join("0.data"));
        assert!(placeholder.stream.is_placeholder());
        let mut full = Maker::new(5000, false, None);
        full.data(1, b"content");
        full.data(4990, b"end");
        let layers = [placeholder, full.write(dir.path().join("1.data"))];
        let image = extracted(&layers, dir.path(), 1);
        assert_eq!((image.len(), &image[..9], &image[4990..4993]), (5000, &b"\0content\0"[..], &b"end"[..]));
    }
    let unchanged = Maker::new(5000, true, LZ4).write(dir.path().join("2.data"));
    assert!(!unchanged.stream.is_placeholder(), "an increment of a disk that did not change");
}

/// BLAKE3 over one for each MiB, that over the BLAKE3 of each of its 64 KiB.
pub(crate) fn digest(image: &[u8]) -> String {
    let mut top = blake3::Hasher::new();
    for mib in image.chunks(1 << 20) {
        let mut parts = blake3::Hasher::new();
        for part in mib.chunks(64 << 10) {
            parts.update(blake3::hash(part).as_bytes());
        }
        top.update(parts.finalize().as_bytes());
    }
    top.finalize().to_string()
}

/// A random stream over a disk of several windows: few frames, some of them large, some zeros, some resizing.
/// `stem` is the file's name up to what its compression puts behind it.
fn large_stream(random: &mut Random, shadow: &mut Vec<u8>, number: u32, alone: bool, stem: &Path) {
    let mib = 1u64 << 20;
    if number > 0 && random.below(3) == 0 {
        shadow.resize((20 * mib + random.below(60 * mib)) as usize, 0);
    }
    let size = shadow.len() as u64;
    let compression = any_compression(random);
    let mut maker = Maker::new(size, !alone, compression);
    maker.number = number;
    let mut at = random.below(8 * mib);
    while at < size {
        let most = if random.below(2) == 0 { 5000 } else { 9 * mib };
        let len = (1 + random.below(most)).min(size - at);
        let range = at as usize..(at + len) as usize;
        if random.below(4) == 0 {
            maker.zero(at, len);
            if alone {
                shadow[range].fill(0);
            }
        } else {
            // A frame of zeros, too.
            let fill = random.below(3) as u8 * 17;
            let content: Vec<u8> =
                (0..len).map(|i| if i % 5000 < 4500 { fill } else { fill.wrapping_mul(i as u8) }).collect();
            maker.data(at, &content);
            shadow[range].copy_from_slice(&content);
        }
        at += len + random.below(12 * mib);
    }
    let mut path = stem.as_os_str().to_owned();
    path.push(format!(".{}", StreamSuffix::of(compression).as_str()));
    maker.write(path.into());
}

#[test]
fn windows_pipes_and_digests_equal_the_shadow() {
    let mut random = Random::from_seed(0x5eed_0004_0005_0006);
    let vda = "vda".parse().unwrap();
    for round in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let (mut shadow, mut shadows, mut names) = (vec![0; 70_000_001], Vec::new(), Vec::new());
        for number in 0..5 {
            let alone = number == 0 || random.below(4) == 0;
            let name = format!("virtnbdbackup.{number}");
            let file = if number == 0 { "vda.full".to_owned() } else { format!("vda.inc.{name}") };
            large_stream(&mut random, &mut shadow, number, alone, &dir.path().join(file));
            shadows.push((name.parse::<PointId>().unwrap(), shadow.clone()));
            names.push(name);
            if number == 2 {
                // A difference beside the chain: the chain goes on without it.
                let mut other = shadow.clone();
                let file = dir.path().join("vda.diff.1795377788");
                large_stream(&mut random, &mut other, 3, false, &file);
                shadows.push(("diff.1795377788".parse().unwrap(), other));
            }
        }
        std::fs::write(dir.path().join("vm.cpt"), serde_json::to_string(&names).unwrap()).unwrap();
        let set = BackupSet::open(dir.path()).unwrap();
        let ends_so = |end: &str| {
            let mut files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            files.any(|file| file.extension().is_some_and(|last| last == end))
        };
        let mixed = set.problems.iter().any(|problem| matches!(problem, SetProblem::MixedSuffixes));
        assert_eq!(mixed, ends_so("data") && ends_so("zstd"), "round {round}");
        let workers = NonZeroUsize::new(1 + round % 3).unwrap();
        let report = verify_set(&set, VerifyOptions { depth: Depth::Deep, workers }, &());
        let found: Vec<_> = report.digests.iter().map(|found| (found.point, found.digest.clone())).collect();
        let want: Vec<_> = shadows.iter().map(|(point, shadow)| (*point, digest(shadow))).collect();
        assert_eq!(found, want, "round {round}: {:?}", report.findings);
        for (point, shadow) in &shadows {
            let mut out = Vec::new();
            extract_to(&set, &vda, *point, &mut out, workers, &()).unwrap();
            assert!(out == *shadow, "round {round}, {point}");
        }
    }
}
