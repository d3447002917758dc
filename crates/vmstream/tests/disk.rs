//! A disk that is read anywhere: the same bytes as an extraction gives, or an error, and no more work than that takes.

use crate::chains::{Form, Link, content, write_chain};
use crate::made::{Coding, Lz4, Made, OURS, PEERS, Stream};
use crate::ours::{DISK, Ours};
use random::Random;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use vmstream::chain::{BackupSet, DiskTarget, PointId};
use vmstream::disk::{Check, Disk, DiskError, DiskOptions, Proof};
use vmstream::restore::extract_to;

const MIB: usize = 1 << 20;
const UNIT: u64 = 256 << 10;

fn target(name: &str) -> DiskTarget {
    name.parse().unwrap()
}

fn opened(dir: &Path, disk: &str, point: PointId, options: DiskOptions) -> Disk {
    let set = BackupSet::open(dir).unwrap();
    Disk::open(&set, &target(disk), point, options, &|_| ()).unwrap()
}

fn newest(dir: &Path, options: DiskOptions) -> Disk {
    let point = BackupSet::open(dir).unwrap().newest().unwrap().id;
    opened(dir, "vda", point, options)
}

fn skipping() -> DiskOptions {
    DiskOptions { check: Check::Skip, ..DiskOptions::default() }
}

fn part(of: &[u8], range: &Range<u64>) -> Vec<u8> {
    of[range.start as usize..range.end as usize].to_vec()
}

fn read(disk: &Disk, range: &Range<u64>) -> Result<(Vec<u8>, Proof), DiskError> {
    let mut bytes = vec![0xee; (range.end - range.start) as usize];
    disk.read_at(range.start, &mut bytes).map(|proof| (bytes, proof))
}

/// A range of any length, also of none.
fn any_range(random: &mut Random, size: u64) -> Range<u64> {
    let most = [1, 600, 5000, 300_000, size][random.below(5) as usize].min(size);
    let len = random.below(most + 1);
    let start = random.below(size - len + 1);
    start..start + len
}

/// Eight threads read ranges of it; the extents cover it; all of it is written out.
fn equals(disk: &Disk, want: &[u8], proof: Proof, seed: u64, about: &str) {
    let size = want.len() as u64;
    assert_eq!(disk.size(), size, "{about}");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let mut random = Random::from_seed(seed ^ (thread << 32));
                for _ in 0..30 {
                    let range = any_range(&mut random, size);
                    let (bytes, found) = read(disk, &range).unwrap();
                    assert!(bytes == part(want, &range), "{about}: {range:?}");
                    assert!(found == proof || range.is_empty(), "{about}: {range:?} is {found:?}");
                }
            });
        }
    });
    let mut at = 0;
    let mut before = None;
    for extent in disk.extents(0..u64::MAX) {
        let extent = extent.unwrap();
        assert_eq!(extent.disk.start, at, "{about}");
        assert_ne!(before.replace(extent.from), Some(extent.from), "{about}: neighbours are joined");
        assert!(extent.from.is_some() || part(want, &extent.disk).iter().all(|byte| *byte == 0), "{about}");
        at = extent.disk.end;
    }
    assert_eq!(at, size, "{about}");
    let mut random = Random::from_seed(seed);
    let range = any_range(&mut random, size);
    let whole: Vec<_> = disk.extents(range.clone()).map(Result::unwrap).collect();
    assert_eq!(whole.first().map_or(range.end, |first| first.disk.start), range.start, "{about}");
    assert_eq!(whole.last().map_or(range.end, |last| last.disk.end), range.end, "{about}");
    let mut out = Vec::new();
    disk.copy_to(0..size, &mut out, NonZeroUsize::new(3).unwrap(), &()).unwrap();
    assert!(out == want, "{about}");
    let past = disk.read_at(size, &mut [0]);
    assert!(matches!(past, Err(DiskError::PastEnd { offset, len: 1, .. }) if offset == size), "{about}");
}

/// Every point of a set, small caches and large, checked first and not.
fn set_equals(dir: &Path, shadows: &[(PointId, Vec<u8>)], proofs: (Proof, Proof), seed: u64) {
    let set = BackupSet::open(dir).unwrap();
    for (point, shadow) in shadows {
        let mut extracted = Vec::new();
        extract_to(&set, &target("vda"), *point, &mut extracted, NonZeroUsize::MIN, &()).unwrap();
        assert!(extracted == *shadow, "{point}: the extraction");
        for (options, proof) in [
            (DiskOptions::default(), proofs.0),
            (DiskOptions { content_bytes: 0, index_bytes: 0, ..DiskOptions::default() }, proofs.0),
            (DiskOptions { content_bytes: 600_000, index_bytes: 1000, check: Check::Skip }, proofs.1),
        ] {
            let disk = opened(dir, "vda", *point, options);
            equals(&disk, shadow, proof, seed, &format!("{point} with {options:?}, seed {seed}"));
        }
    }
}

fn any_coding(random: &mut Random) -> Coding {
    match random.below(6) {
        0 => Coding::Plain,
        1 => Coding::Zstd,
        2 => Coding::Lz4(OURS),
        3 => Coding::Lz4(PEERS),
        _ => Coding::Lz4(Lz4 {
            linked: random.below(2) == 0,
            block_kib: [64, 256, 1024, 4096][random.below(4) as usize],
            block_sums: random.below(3) > 0,
            content_sum: random.below(2) == 0,
            content_size: random.below(2) == 0,
            // Blocks that are not full: of the others nobody knows where their content lies.
            flush_len: [0, 0, 50_000, 70_001][random.below(4) as usize],
        }),
    }
}

/// What a stream does to a disk: ranges in order, content or zeros.
fn any_frames(random: &mut Random, size: u64) -> Frames {
    let (mut frames, mut at) = (Vec::new(), random.below(size / 4));
    while at < size {
        let most = [700, 9000, 400_000, 2 << 20][random.below(4) as usize];
        let end = size.min(at + 1 + random.below(most));
        let content = (random.below(4) > 0).then(|| content(random, (end - at) as usize));
        frames.push((at..end, content));
        at = end + [0, 0, random.below(300_000)][random.below(3) as usize];
    }
    frames
}

fn foreign_stream(random: &mut Random, number: u32, alone: bool, shadow: &mut Vec<u8>) -> Stream {
    if number > 0 && random.below(4) == 0 {
        shadow.resize(MIB + random.below(3 * MIB as u64) as usize, 0);
    }
    let mut stream = Stream::new(number, shadow.len() as u64, !alone, any_coding(random));
    for (range, content) in any_frames(random, shadow.len() as u64) {
        let place = range.start as usize..range.end as usize;
        match content {
            Some(content) => {
                stream.data(range.start, &content);
                shadow[place].copy_from_slice(&content);
            }
            None => {
                stream.zero(range);
                if alone {
                    shadow[place].fill(0);
                }
            }
        }
    }
    stream
}

type Frames = Vec<(Range<u64>, Option<Vec<u8>>)>;

/// The same with zeros between them: a stream that stands alone says something of every byte.
fn without_gaps(frames: Frames, size: u64) -> Frames {
    let (mut whole, mut at) = (Frames::new(), 0);
    for (range, content) in frames.into_iter().chain([(size..size, None)]) {
        if at < range.start {
            whole.push((at..range.start, None));
        }
        at = range.end;
        if !range.is_empty() {
            whole.push((range, content));
        }
    }
    whole
}

#[test]
fn any_range_of_any_foreign_set_is_as_extracted() {
    let mut random = Random::seeded("SEED", 0x5eed_d15c_0001);
    for round in 0..14 {
        let dir = tempfile::tempdir().unwrap();
        let checksums = round % 3 > 0;
        let mut made = Made::new(dir.path(), checksums);
        let mut shadow = vec![0; 2 * MIB + 12_345];
        for number in 0..1 + random.below(5) as u32 {
            let alone = number == 0 || random.below(5) == 0;
            let stream = foreign_stream(&mut random, number, alone, &mut shadow);
            made.point(stream, shadow.clone());
            if number == 1 {
                let mut other = shadow.clone();
                let stream = foreign_stream(&mut random, 2, false, &mut other);
                made.difference(1_795_377_788, stream, other);
            }
        }
        let first = if checksums { Proof::Proven } else { Proof::Unproven };
        set_equals(dir.path(), &made.shadows, (first, Proof::Unproven), random.below(u64::from(u32::MAX)));
    }
}

#[test]
fn any_range_of_any_set_with_sidecars_is_as_extracted() {
    let mut random = Random::seeded("SEED", 0x5eed_d15c_0002);
    for round in 0..10u32 {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, mut shadows, mut links) = (Vec::new(), Vec::new(), Vec::new());
        let mut size = 3 * MIB as u64 + 777;
        for number in 0..1 + random.below(5) {
            let alone = number == 0 || random.below(5) == 0;
            if number > 0 && random.below(5) == 0 {
                size = MIB as u64 + random.below(3 * MIB as u64);
            }
            let mut frames = any_frames(&mut random, size);
            if alone {
                frames = without_gaps(frames, size);
            }
            let link = Link { size, alone, frames };
            link.apply(&mut disk);
            shadows.push((format!("virtnbdbackup.{number}").parse().unwrap(), disk.clone()));
            links.push(link);
        }
        let form = Form { compression: (round % 2 == 0).then_some(1), frame_len: 2 * MIB, sidecars: true };
        write_chain(dir.path(), &links, form);
        set_equals(dir.path(), &shadows, (Proof::Proven, Proof::Proven), random.below(u64::from(u32::MAX)));
    }
}

#[test]
fn a_raw_image_is_held_against_its_granules() {
    let ours = Ours::new(Some(1));
    let set = BackupSet::open(ours.dir()).unwrap();
    let point = set.newest().unwrap().id;
    let disk = opened(ours.dir(), "vdb", point, DiskOptions::default());
    assert_eq!(disk.taken().to_string(), "virtnbdbackup.0");
    equals(&disk, &ours.raw, Proof::Proven, 77, "vdb");
    let image = ours.path("vdb.copy.data");
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[65_000] ^= 1;
    std::fs::write(&image, &bytes).unwrap();
    let disk = opened(ours.dir(), "vdb", point, DiskOptions::default());
    let error = read(&disk, &(10..20)).unwrap_err();
    assert!(matches!(&error, DiskError::RawContent { disk, .. } if *disk == (0..65_536)), "{error}");
    assert!(error.is_damage());
    assert_eq!(read(&disk, &(65_540..65_550)).unwrap(), (part(&ours.raw, &(65_540..65_550)), Proof::Proven));
    std::fs::remove_file(ours.path("vdb.copy.idx")).unwrap();
    let disk = opened(ours.dir(), "vdb", point, DiskOptions::default());
    assert_eq!(read(&disk, &(10..20)).unwrap(), (part(&bytes, &(10..20)), Proof::Unproven));
}

#[test]
fn a_cold_read_decodes_one_block_and_a_warm_one_none() {
    let mut random = Random::from_seed(0x5eed_d15c_0003);
    let dir = tempfile::tempdir().unwrap();
    let size = 8 * MIB as u64;
    let content = random.bytes(size as usize);
    // Of an uncompressed stream its granules are the smallest that something proves.
    for (compression, unit) in [(Some(1), UNIT), (None, 64 << 10)] {
        let set = dir.path().join(unit.to_string());
        let link = Link { size, alone: true, frames: vec![(0..size, Some(content.clone()))] };
        write_chain(&set, &[link], Form { compression, frame_len: 2 * MIB, sidecars: true });
        let disk = newest(&set, DiskOptions::default());
        assert_eq!(disk.decoded_bytes(), 0);
        for (turn, at) in [5 * MIB as u64 + 8192, 3 * MIB as u64 - 4096, 0].into_iter().enumerate() {
            for _ in 0..3 {
                let range = at..at + 4096;
                assert!(read(&disk, &range).unwrap().0 == part(&content, &range));
                assert_eq!(disk.decoded_bytes(), unit * (turn as u64 + 1), "at {at}");
            }
        }
        // Who reads on gets the rest of the piece at once, and all of it is decoded once.
        let disk = newest(&set, DiskOptions::default());
        for at in (0..size).step_by(4096) {
            assert!(read(&disk, &(at..at + 4096)).unwrap().0 == part(&content, &(at..at + 4096)));
        }
        assert_eq!(disk.decoded_bytes(), size);
    }
}

#[test]
fn of_a_linked_frame_no_more_is_decoded_than_up_to_the_range() {
    let mut random = Random::from_seed(0x5eed_d15c_0004);
    let dir = tempfile::tempdir().unwrap();
    let (size, block) = (40 * MIB as u64, 64 << 10);
    let content = content(&mut random, size as usize);
    let mut stream = Stream::new(0, size, false, Coding::Lz4(PEERS));
    stream.data(0, &content);
    let mut made = Made::new(dir.path(), true);
    made.point(stream, content.clone());
    for at in [0, MIB as u64, 20 * MIB as u64 - 4096, 33 * MIB as u64] {
        let disk = newest(dir.path(), DiskOptions::default());
        let range = at..at + 4096;
        assert!(read(&disk, &range).unwrap().0 == part(&content, &range));
        let in_piece = at % (32 * MIB as u64);
        let upto = (in_piece + 4096).next_multiple_of(UNIT) + block;
        assert!(disk.decoded_bytes() <= upto, "{} for {at}", disk.decoded_bytes());
        read(&disk, &range).unwrap();
        assert!(disk.decoded_bytes() <= upto, "a second time");
    }
    let disk = newest(dir.path(), DiskOptions::default());
    for at in (0..size).step_by(100_000) {
        let range = at..size.min(at + 100_000);
        assert!(read(&disk, &range).unwrap().0 == part(&content, &range));
    }
    assert!(disk.decoded_bytes() <= size + 2 * (UNIT + 2 * block), "{}", disk.decoded_bytes());
}

#[test]
fn a_file_that_is_cut_short_while_it_is_open_is_an_error() {
    for (level, sidecars) in [(Some(1), true), (None, true), (Some(1), false), (None, false)] {
        let ours = Ours::new(level);
        if !sidecars {
            for file in ours.files().iter().filter(|file| file.extension().is_some_and(|end| end == "idx")) {
                std::fs::remove_file(file).unwrap();
            }
        }
        let disk = newest(ours.dir(), DiskOptions::default());
        let cut = |name: &str, len| {
            File::options().write(true).open(ours.path(name)).unwrap().set_len(len).unwrap();
        };
        cut("vda.full.data", 300);
        let end = DISK as u64 - 700..DISK as u64;
        let error = read(&disk, &end).unwrap_err();
        assert!(!error.is_damage(), "{error:?}");
        assert!(matches!(&error, DiskError::Layer { point, .. } if point.to_string() == "virtnbdbackup.0"));
        // What other streams have is there.
        let (bytes, _) = read(&disk, &(2 * 65_536..3 * 65_536)).unwrap();
        assert!(bytes == part(ours.disks.last().unwrap(), &(2 * 65_536..3 * 65_536)));
    }
    let ours = Ours::new(None);
    let point = BackupSet::open(ours.dir()).unwrap().newest().unwrap().id;
    let raw = opened(ours.dir(), "vdb", point, DiskOptions::default());
    File::options().write(true).open(ours.path("vdb.copy.data")).unwrap().set_len(100).unwrap();
    assert!(matches!(read(&raw, &(0..10)), Err(DiskError::Raw { .. })));
}

/// Where a set has its blocks: of each stream, the ranges of its file with the ranges of the disk they hold.
fn blocks(path: &Path) -> Vec<(Range<u64>, Range<u64>)> {
    let stream = vmstream::stream::StreamFile::open(path).unwrap();
    let frames: Vec<_> = stream.frames().map(Result::unwrap).collect();
    let data = frames.iter().filter(|frame| frame.header.kind == vmstream::stream::FrameKind::Data);
    let pieces = data.flat_map(|frame| frame.pieces().collect::<Vec<_>>());
    pieces.map(|piece| (piece.stored_at..piece.stored_at + piece.stored_len, piece.disk)).collect()
}

#[test]
fn a_damaged_byte_is_an_error_in_its_block_alone() {
    for level in [Some(1), None] {
        let ours = Ours::new(level);
        let want = ours.disks.last().unwrap();
        let names = ["vda.full.data", "vda.inc.virtnbdbackup.1.data", "vda.inc.virtnbdbackup.2.data"];
        for (number, name) in names.into_iter().enumerate() {
            let (path, whole) = (ours.path(name), std::fs::read(ours.path(name)).unwrap());
            let blocks = blocks(&path);
            // Who cannot believe the meta text has nothing of the stream.
            let meta_end = whole.windows(2).skip(40).position(|two| two == b"\r\n").unwrap() as u64 + 40;
            for at in (0..whole.len() as u64).step_by(if number == 0 { 1 } else { 97 }) {
                let mut bytes = whole.clone();
                bytes[at as usize] ^= 1 << (at % 8);
                std::fs::write(&path, &bytes).unwrap();
                let Ok(set) = BackupSet::open(ours.dir()) else { continue };
                let point = "virtnbdbackup.2".parse().unwrap();
                let Ok(disk) = Disk::open(&set, &target("vda"), point, skipping(), &|_| ()) else {
                    assert!(!blocks.iter().any(|(file, _)| file.contains(&at)), "{name} at {at}");
                    continue;
                };
                let hit = blocks.iter().find(|(file, _)| file.contains(&at)).map(|(_, disk)| disk.clone());
                for start in (0..DISK as u64).step_by(512) {
                    let range = start..(start + 512).min(DISK as u64);
                    match read(&disk, &range) {
                        Ok((bytes, _)) => assert!(bytes == part(want, &range), "{name} at {at}: {range:?}"),
                        Err(error) => {
                            let told = format!("{name} at {at}: {range:?}: {error:?}");
                            if at < meta_end {
                                continue;
                            }
                            let hit = hit.as_ref().unwrap_or_else(|| panic!("{told}"));
                            assert!(hit.start < range.end && range.start < hit.end, "{told}");
                            assert!(error.is_damage(), "{told}");
                            let DiskError::Layer { disk, point, source } = error else { panic!("{told}") };
                            let vmstream::stream::StreamError::Damaged(damage) = source.source else {
                                panic!("{told}")
                            };
                            assert_eq!(point.to_string(), format!("virtnbdbackup.{number}"), "{told}");
                            assert!(damage.frame.is_some() && damage.disk.is_some(), "{told}");
                            assert!(range.start <= disk.start && disk.end <= range.end, "{told}");
                        }
                    }
                }
            }
            std::fs::write(&path, &whole).unwrap();
        }
    }
}

#[test]
fn damage_in_one_of_the_blocks_of_a_frame_leaves_the_others() {
    let mut random = Random::from_seed(0x5eed_d15c_0005);
    let dir = tempfile::tempdir().unwrap();
    let size = 2 * MIB as u64;
    let content = random.bytes(size as usize);
    let link = Link { size, alone: true, frames: vec![(0..size, Some(content.clone()))] };
    write_chain(dir.path(), &[link], Form { compression: Some(1), frame_len: 2 * MIB, sidecars: true });
    let path = dir.path().join("vda.full.data");
    let mut bytes = std::fs::read(&path).unwrap();
    let stored = blocks(&path)[0].0.clone();
    // The fourth block: noise does not shrink, so that blocks lie where their content does.
    let hit = 3 * UNIT..4 * UNIT;
    bytes[(stored.start + hit.start + UNIT / 2) as usize] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let disk = newest(dir.path(), skipping());
    // Twice: who reads on is not kept from what is whole.
    for _ in 0..2 {
        for start in (0..size).step_by(UNIT as usize) {
            let range = start..start + UNIT;
            match read(&disk, &range) {
                Ok((bytes, _)) => assert!(range != hit && bytes == part(&content, &range), "{range:?}"),
                Err(error) => assert_eq!(range, hit, "{error:?}"),
            }
        }
    }
}

#[test]
fn a_stream_without_sidecar_is_held_against_its_checksum_file_first() {
    for coding in [Coding::Plain, Coding::Lz4(PEERS), Coding::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..5000u32).map(|at| (at * 7 / 3) as u8).collect();
        let mut stream = Stream::new(0, 10_000, false, coding);
        stream.data(2000, &content);
        let mut made = Made::new(dir.path(), true);
        made.point(stream, Vec::new());
        let end = if coding == Coding::Zstd { "zstd" } else { "data" };
        let path = dir.path().join(format!("vda.full.{end}"));
        let mut bytes = std::fs::read(&path).unwrap();
        // The frame's place on the disk.
        let header = bytes.windows(5).position(|five| five == b"data ").unwrap();
        assert_eq!(&bytes[header + 5 + 12..header + 5 + 16], b"07d0");
        bytes[header + 5 + 13] = b'8';
        std::fs::write(&path, &bytes).unwrap();
        let set = BackupSet::open(dir.path()).unwrap();
        let point = set.newest().unwrap().id;
        let error = Disk::open(&set, &target("vda"), point, DiskOptions::default(), &|_| ()).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
        // Nobody looked: then it is not called proven.
        let disk = newest(dir.path(), skipping());
        assert_eq!(read(&disk, &(2300..2400)).unwrap().1, Proof::Unproven);
        assert_eq!(read(&disk, &(0..10)).unwrap().1, Proof::Unproven);
    }
}
