//! Sidecars: what is written is read back, granules follow the disk through a chain, and nothing else is believed.

use crate::golden;
use random::Random;
use serde_json::{Value as Json, json};
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmstream::chain::open_file;
use vmstream::sidecar::{
    Block, Checked, FileIdentity, Granules, Head, Ledger, LeftOut, PlainSums, Recorder, Run, RunKind,
    Sidecar, SidecarError, SidecarWriter, StoredSums, StreamIdentity, Tables, Value,
};
use vmstream::stream::{Compression, FrameKind, StreamFile, codec};
use vmstream::verify::{Depth, Proof, VerifyOptions, verify_file};

const KIB: u64 = 1 << 10;

const GRANULE: u64 = 64 * KIB;

const DISK: u64 = 24 * GRANULE + 1536;

fn head(name: &str, granules: Granules, parent: Option<&Sidecar>) -> Head {
    Head {
        writer: "test".to_owned(),
        stream: StreamIdentity {
            name: name.to_owned(),
            size: 1 << 30,
            adler32: Some(1),
            digest: Some([7; 32]),
        },
        target: "vda".to_owned(),
        point: "virtnbdbackup.0".to_owned(),
        parent: parent.map(|_| "virtnbdbackup.0".to_owned()),
        parent_sidecar: parent.map(|parent| *parent.digest()),
        taken_seconds: 1_795_377_786,
        granules,
        disks: Some(vec!["vda".to_owned()]),
        left_out: vec![LeftOut { disk: "sda".to_owned(), reason: "empty drive".to_owned() }],
        files: vec![FileIdentity::of("vmconfig.virtnbdbackup.0.xml", b"<domain/>")],
    }
}

/// A stream and its sidecar of the ranges of a disk; what is zero among them has a zero frame or none.
fn record(
    dir: &Path,
    name: &str,
    disk: &[u8],
    ranges: &[Range<u64>],
    level: Option<Compression>,
) -> (PathBuf, Vec<Range<u64>>) {
    let (stream, sidecar) = (dir.join(format!("{name}.data")), dir.join(format!("{name}.idx")));
    let meta = golden::meta(disk.len() as u64, 0, level);
    let mut recorder = Recorder::create(&stream, &sidecar, meta).unwrap();
    let mut frames = Vec::new();
    for range in ranges {
        let plain = &disk[range.start as usize..range.end as usize];
        if plain.iter().all(|byte| *byte == 0) {
            recorder.zero_content(range.start, plain.len() as u64).unwrap();
            recorder.zero_frame(range.start, plain.len() as u64).unwrap();
            continue;
        }
        let mut stored = Vec::new();
        match level {
            None => stored.extend(plain),
            Some(level) => drop(codec::compress(plain, level, &mut stored).unwrap()),
        }
        let sums = (PlainSums::of(range.start, plain, recorder.granules()), StoredSums::of(&stored));
        recorder.data(range.start, plain.len() as u64, &stored, (&sums.0, &sums.1)).unwrap();
        frames.push(range.clone());
    }
    let granules = recorder.granules();
    let (finished, writer) = recorder.finish().unwrap();
    let mut head = head(&format!("{name}.data"), granules, None);
    head.stream = StreamIdentity {
        name: format!("{name}.data"),
        size: finished.size,
        adler32: Some(finished.adler32),
        digest: Some(finished.digest),
    };
    writer.finish(&head).unwrap();
    (sidecar, frames)
}

#[test]
fn the_blocks_are_those_of_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Vec<u8> = (0..DISK).map(|i| (i / 3000 * 7) as u8).collect();
    for level in [None, Some(Compression::Lz4(1)), Some(Compression::Zstd(1))] {
        let ranges = [0..GRANULE, GRANULE + 512..3 * GRANULE, DISK - 1536..DISK];
        let (path, frames) = record(dir.path(), "vda.full", &disk, &ranges, level);
        let sidecar = Sidecar::open(&path).unwrap();
        sidecar.check().unwrap();
        let blocks: Vec<_> = sidecar.blocks().map(Result::unwrap).collect();
        assert_eq!(blocks.iter().map(|block| block.disk()).collect::<Vec<_>>(), frames);
        let bytes = fs::read(dir.path().join("vda.full.data")).unwrap();
        let stream = StreamFile::open(&dir.path().join("vda.full.data")).unwrap();
        let data: Vec<_> =
            stream.frames().map(Result::unwrap).filter(|f| f.header.kind == FrameKind::Data).collect();
        for (block, frame) in blocks.iter().zip(&data) {
            let stored = &bytes[block.stored_at as usize..][..block.stored_len as usize];
            let plain = &disk[block.start as usize..][..block.plain_len as usize];
            assert_eq!(block.stored_at, frame.stored_at);
            assert_eq!(
                (block.stored_crc32, block.plain_crc32),
                (crc32fast::hash(stored), crc32fast::hash(plain))
            );
        }
        // The digest as the specification says it.
        let meta_end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let meta_end =
            bytes[meta_end + 2..].windows(2).position(|two| two == b"\r\n").unwrap() + meta_end + 4;
        let (mut want, mut at) = (blake3::Hasher::new(), meta_end);
        for block in &blocks {
            want.update(&bytes[at..block.stored_at as usize]);
            at = block.stored_at as usize + block.stored_len as usize;
            want.update(blake3::hash(&bytes[block.stored_at as usize..at]).as_bytes());
        }
        want.update(&bytes[at..]).update(&bytes[..meta_end]);
        assert_eq!(sidecar.head().stream.digest, Some(*want.finalize().as_bytes()));
        assert_eq!(sidecar.head().stream.adler32, Some(vmstream::stream::checksum::adler32(&bytes)));
    }
}

/// What is known of the whole disk after the last of these sidecars.
fn values(paths: &[PathBuf]) -> Vec<Value> {
    let mut found = Vec::new();
    let sidecars = paths.iter().map(|path| Sidecar::open(path).ok());
    Tables::new(sidecars.collect())
        .window(&(0..DISK), |layer, known| {
            if layer + 1 == paths.len() {
                found = known.map(|(_, values)| values.to_vec()).unwrap_or_default();
            }
        })
        .unwrap();
    found
}

/// Random writes and zeros on a disk, each point recorded as increments are, against the obvious model: for each
/// granule its bytes, and whether any change since the last time it was covered touched only a part of it.
#[test]
fn granules_follow_the_disk_through_a_chain() {
    let mut random = Random::from_environment("SEED");
    for _ in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let granules = Granules::of_disk(DISK);
        let count = granules.count() as usize;
        let mut disk = vec![0u8; DISK as usize];
        let mut known = vec![false; count];
        let mut paths: Vec<PathBuf> = Vec::new();
        for point in 0..5 {
            let unit = [512, 4 * KIB, GRANULE][random.below(3) as usize];
            let mut touched = vec![false; DISK.div_ceil(512) as usize];
            for _ in 0..random.below(8) {
                let start = random.below(DISK / unit) * unit;
                let end = DISK.min(start + (1 + random.below(6)) * unit);
                let byte = if random.below(3) == 0 { 0 } else { random.below(255) as u8 + 1 };
                disk[start as usize..end as usize].fill(byte);
                touched[(start / 512) as usize..end.div_ceil(512) as usize].fill(true);
            }
            if point == 0 {
                touched.fill(true);
            }
            let path = dir.path().join(format!("{point}.idx"));
            let mut writer = SidecarWriter::create(&path, granules).unwrap();
            let mut at = 0;
            while at < DISK {
                // Ranges as a scout finds them, cut anywhere.
                let longest = (1 + random.below(5 * GRANULE / 512)) * 512;
                let is = touched[(at / 512) as usize];
                let mut end = at;
                while end < DISK && end < at + longest && touched[(end / 512) as usize] == is {
                    end = DISK.min(end + 512);
                }
                let part = &disk[at as usize..end as usize];
                if is && part.iter().all(|byte| *byte == 0) {
                    writer.zero(at, end - at).unwrap();
                } else if is {
                    writer.data(at, end - at, &PlainSums::of(at, part, granules)).unwrap();
                }
                at = end;
            }
            let parent = paths.last().map(|path| Sidecar::open(path).unwrap());
            writer.finish(&head("vda.full.data", granules, parent.as_ref())).unwrap();
            Sidecar::open(&path).unwrap().check().unwrap();
            paths.push(path);

            for (number, known) in known.iter_mut().enumerate() {
                let range = granules.range(number as u64);
                let part = &touched[(range.start / 512) as usize..range.end.div_ceil(512) as usize];
                if part.iter().all(|touched| *touched) {
                    *known = true;
                } else if part.iter().any(|touched| *touched) {
                    *known = false;
                }
            }
            let want: Vec<Value> = (0..count)
                .map(|number| {
                    let range = granules.range(number as u64);
                    let bytes = &disk[range.start as usize..range.end as usize];
                    if known[number] { Value::Known(crc32fast::hash(bytes)) } else { Value::Unknown }
                })
                .collect();
            assert_eq!(values(&paths), want, "point {point}");

            // The same with the content in any order and any cut, as a restore has it.
            let sidecars = paths.iter().map(|path| Sidecar::open(path).ok()).collect();
            let ledger = Ledger::of(Tables::new(sidecars), DISK).unwrap().unwrap();
            let mut cuts: Vec<u64> = (0..20).map(|_| random.below(DISK)).chain([0, DISK]).collect();
            cuts.sort_unstable();
            let mut parts: Vec<_> = cuts.windows(2).map(|two| two[0]..two[1]).collect();
            parts.sort_by_cached_key(|_| random.below(1000));
            let wrong = random.below(DISK);
            let mut bytes = disk.clone();
            let spoil = random.below(2) == 0;
            bytes[wrong as usize] ^= u8::from(spoil);
            parts
                .iter()
                .for_each(|part| ledger.note(part.start, &bytes[part.start as usize..part.end as usize]));
            let found = ledger.finish();
            let proven = |number: usize| known[number] && !(spoil && wrong / GRANULE == number as u64);
            let len = |number: usize| granules.len_of(number as u64);
            let proven_bytes = (0..count).filter(|number| proven(*number)).map(len).sum();
            let unproven_bytes = (0..count).filter(|number| !known[*number]).map(len).sum();
            let spoilt = (0..count).filter(|number| known[*number] && !proven(*number));
            let wrong = spoilt.map(|number| granules.range(number as u64)).collect();
            assert_eq!(found, Checked { proven_bytes, unproven_bytes, wrong });
        }
    }
}

#[test]
fn many_chunks_are_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vda.full.idx");
    let disk = 20_000 * GRANULE;
    let granules = Granules::of_disk(disk);
    let mut writer = SidecarWriter::create(&path, granules).unwrap();
    let (plain, stored) = (vec![5; GRANULE as usize], StoredSums::of(b"stored"));
    for number in 0..20_000 {
        let start = number * GRANULE;
        let sums = PlainSums::of(start, &plain, granules);
        writer.block(&Block::new((start, GRANULE), (number * 6, 6), &sums, &stored).unwrap()).unwrap();
        // Every hundredth is zero.
        match number % 100 {
            0 => writer.zero(start, GRANULE).unwrap(),
            _ => writer.data(start, GRANULE, &sums).unwrap(),
        }
    }
    writer.finish(&head("vda.full.data", granules, None)).unwrap();
    let sidecar = Sidecar::open(&path).unwrap();
    sidecar.check().unwrap();
    let starts: Vec<_> = sidecar.blocks().map(|block| block.unwrap().start / GRANULE).collect();
    assert_eq!(starts, (0..20_000).collect::<Vec<_>>());
    let mut tables = Tables::new(vec![Some(sidecar)]);
    let mut found = Vec::new();
    for start in (0..disk).step_by(32 << 20) {
        let window = start..disk.min(start + (32 << 20));
        tables.window(&window, |_, known| found.extend_from_slice(known.unwrap().1)).unwrap();
    }
    let (full, zero) = (crc32fast::hash(&plain), crc32fast::hash(&vec![0; GRANULE as usize]));
    let want = (0..20_000).map(|number| Value::Known(if number % 100 == 0 { zero } else { full }));
    assert!(found == want.collect::<Vec<_>>());
}

#[test]
fn a_sidecar_that_lost_its_parent_knows_its_own_granules_only() {
    let dir = tempfile::tempdir().unwrap();
    let granules = Granules::of_disk(DISK);
    let write = |name: &str, start: u64, len: u64, parent: Option<&Path>| {
        let path = dir.path().join(name);
        let mut writer = SidecarWriter::create(&path, granules).unwrap();
        writer.zero(start, len).unwrap();
        let parent = parent.map(|path| Sidecar::open(path).unwrap());
        writer.finish(&head("vda.full.data", granules, parent.as_ref())).unwrap();
        path
    };
    let full = write("0", 0, DISK, None);
    let one = write("1", 0, GRANULE, Some(&full));
    let two = write("2", GRANULE, GRANULE, Some(&one));
    let other = write("other", 0, DISK - GRANULE, None);
    let known = |paths: &[&PathBuf]| {
        let paths: Vec<_> = paths.iter().map(|path| (*path).clone()).collect();
        values(&paths).iter().filter(|value| **value != Value::Unknown).count()
    };
    let nowhere = dir.path().join("nowhere");
    assert_eq!(known(&[&full, &one, &two]), granules.count() as usize);
    assert_eq!(known(&[&full, &nowhere, &two]), 1, "the one between is lost");
    assert_eq!(known(&[&other, &one, &two]), 2, "another full");
    assert_eq!(known(&[&nowhere, &one, &two]), 2, "the full's is lost");
    assert_eq!(known(&[&full, &one, &nowhere]), 0);
}

#[test]
fn no_flipped_byte_and_no_cut_passes() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = vec![0; DISK as usize];
    disk[..300_000].fill(3);
    let (path, _) = record(
        dir.path(),
        "vda.full",
        &disk,
        &[0..100_000, 100_000..300_000, 300_000..DISK],
        Some(Compression::Lz4(1)),
    );
    let good = fs::read(&path).unwrap();
    let usable = |bytes: &[u8]| Sidecar::parse(bytes.to_vec()).and_then(|sidecar| sidecar.check());
    usable(&good).unwrap();
    for at in 0..good.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            let error = usable(&bad).unwrap_err();
            assert!(!error.is_newer(), "byte {at}: {error}");
        }
        assert!(usable(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = record(dir.path(), "vda.full", &[1; 4096], &[0..2048, 2048..4096], None);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let end = bytes.len() - 40;
    let digest = blake3::hash(&bytes[..end]);
    bytes[end..end + 32].copy_from_slice(digest.as_bytes());
    assert!(matches!(Sidecar::parse(bytes), Err(SidecarError::Version(2))));
}

fn error_code(error: &SidecarError) -> &'static str {
    match error {
        SidecarError::NotASidecar => "not-a-sidecar",
        SidecarError::Version(_) => "version",
        SidecarError::HeadDamaged => "head-damaged",
        SidecarError::Head(_) => "head",
        SidecarError::Digest => "digest",
        SidecarError::Record { .. } => "record",
        SidecarError::Read(_) => "read",
    }
}

fn described(run: &Run) -> Json {
    let (kind, sums) = match &run.kind {
        RunKind::Zero(_) => ("zero", vec![]),
        RunKind::Known(sums) => ("known", sums.clone()),
        RunKind::Unknown(_) => ("unknown", vec![]),
    };
    json!({"first": run.first, "kind": kind, "count": run.count(), "crc32": sums})
}

#[test]
fn every_vector_is_read_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../format-spec/vectors");
    let made = Command::new(folder.join("make_sidecars.py")).arg("--check").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let folder = folder.join("sidecars");
    let parse =
        |name: &str| -> Json { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
    let index = parse("index.json");
    for name in index["bad"].as_array().unwrap().iter().filter_map(Json::as_str) {
        let opened = Sidecar::open(&folder.join(format!("{name}.idx"))).and_then(|sidecar| sidecar.check());
        let error = opened.expect_err(name);
        assert_eq!(error_code(&error), parse(&format!("{name}.json"))["error"], "{name}");
    }
    for name in index["good"].as_array().unwrap().iter().filter_map(Json::as_str) {
        let want = parse(&format!("{name}.json"));
        let sidecar = Sidecar::open(&folder.join(format!("{name}.idx"))).unwrap();
        sidecar.check().unwrap();
        let hex: String = sidecar.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (json!(sidecar.file_len()), json!(hex)),
            (want["size"].clone(), want["digest"].clone()),
            "{name}"
        );
        let blocks = sidecar
            .blocks()
            .map(Result::unwrap)
            .map(|b| json!([b.start, b.stored_at, b.plain_len, b.stored_len, b.plain_crc32, b.stored_crc32]));
        assert_eq!(Json::Array(blocks.collect()), want["blocks"], "{name}");
        let runs = sidecar.runs().map(|run| described(&run.unwrap()));
        assert_eq!(Json::Array(runs.collect()), want["runs"], "{name}");
        let head = sidecar.head();
        assert_eq!(head.stream.name, want["head"]["stream"]["name"], "{name}");
        assert_eq!(head.granules.size(), want["head"]["granule_size"], "{name}");
        assert_eq!(head.files.len(), want["head"]["files"].as_array().unwrap().len(), "{name}");
        if want["stream"] == true {
            let stream = open_file(&folder.join(format!("{name}.data"))).unwrap();
            let options = VerifyOptions { depth: Depth::Deep, workers: NonZeroUsize::MIN };
            let report = verify_file(&stream, options, &());
            assert_eq!(report.findings, [], "{name}");
            assert_eq!(report.stream.unwrap().proof, Some(Proof::Sidecar), "{name}");
        }
    }
}

#[test]
fn a_list_of_files_that_no_reader_takes_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vda.full.idx");
    let granules = Granules::of_disk(DISK);
    let finish = |files: Vec<FileIdentity>| {
        let mut writer = SidecarWriter::create(&path, granules).unwrap();
        writer.zero(0, DISK).unwrap();
        let done = writer.finish(&Head { files, ..head("vda.full.data", granules, None) }).unwrap();
        let sidecar = Sidecar::open(&path).unwrap();
        sidecar.check().unwrap();
        (done.without_files, sidecar.head().files.len())
    };
    let many = |count: usize| (0..count).map(|at| FileIdentity::of(&format!("file.{at}"), b"")).collect();
    assert_eq!(finish(many(1000)), (false, 1000));
    assert_eq!(finish(many(20_000)), (true, 0));
    assert_eq!(finish(vec![FileIdentity::of("a/b/c", b"")]), (true, 0));
    let long = Head { point: "x".repeat(2 << 20), ..head("vda.full.data", granules, None) };
    let refused = SidecarWriter::create(&path, granules).unwrap().finish(&long).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}
