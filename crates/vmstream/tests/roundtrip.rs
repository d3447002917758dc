//! Round trips: what our writer writes, at every level and frame size, restored by virtnbdrestore; and what it would
//! write itself, read by us.

use crate::chains::{Form, Link, content, write_chain};
use crate::golden::{build, meta};
use crate::peer::Release;
use random::Random;
use std::num::NonZeroUsize;
use std::path::Path;
use vmstream::chain::BackupSet;
use vmstream::convert::{Compression, ConvertOptions, Shape, convert};
use vmstream::restore::extract_to;
use vmstream::stream::writer::MAX_FRAME_LEN;
use vmstream::stream::{self, FrameHeader, FrameKind, MAX_PIECE_LEN, TrailerEntry, codec, trailer};

const KIB: u64 = 1 << 10;

const MIB: u64 = 1 << 20;

const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn extracted(dir: &Path, point: &str) -> Vec<u8> {
    let (set, mut bytes) = (BackupSet::open(dir).unwrap(), Vec::new());
    extract_to(&set, &"vda".parse().unwrap(), point.parse().unwrap(), &mut bytes, WORKERS, &()).unwrap();
    bytes
}

/// A full and two increments of a disk with as much data as needed for a few frames of that size.
fn links(random: &mut Random, frame_len: u64) -> Vec<Link> {
    let data = (frame_len * 5 / 2).clamp(3 * MIB, 35 * MIB);
    let size = data + 5 * MIB;
    let mut content = |range: std::ops::Range<u64>| {
        let len = range.end - range.start;
        let parts =
            (0..len.div_ceil(MIB)).flat_map(|part| content(random, (len - part * MIB).min(MIB) as usize));
        (range, Some(parts.collect::<Vec<u8>>()))
    };
    let zeros =
        |range: std::ops::Range<u64>| (range.clone(), Some(vec![0; (range.end - range.start) as usize]));
    let full = vec![content(0..data), (data..size - KIB, None), content(size - KIB..size)];
    let first = vec![content(64 * KIB..MIB + 512), zeros(MIB + 64 * KIB..2 * MIB)];
    let second =
        vec![zeros(0..4 * KIB), content(MIB..MIB + 192 * KIB), content(size - 3 * MIB..size - 2 * MIB)];
    let link = |alone, frames| Link { size, alone, frames };
    vec![link(true, full), link(false, first), link(false, second)]
}

/// One row of the matrix: all levels at one frame size, each restored whole by one release and in part by the other.
fn levels_at(frame_len: u64) {
    let mut random = Random::seeded("ROUNDTRIP_SEED", 0x5eed_0000 + frame_len);
    let links = links(&mut random, frame_len);
    let mut states: Vec<Vec<u8>> = vec![Vec::new()];
    for link in &links {
        let mut disk = states[states.len() - 1].clone();
        link.apply(&mut disk);
        states.push(disk);
    }
    for compression in [None, Some(1), Some(4), Some(16)] {
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set");
        write_chain(&set, &links, Form { compression, frame_len: frame_len as usize, sidecars: true });
        for release in Release::ALL {
            for (point, want) in [("virtnbdbackup.2", &states[3]), ("virtnbdbackup.1", &states[2])] {
                let until = Some(point).filter(|point| *point != "virtnbdbackup.2");
                let restored = release.restored(&set, "vda", until, &dir.path().join("restored"));
                assert!(
                    restored == *want,
                    "{release:?}, level {compression:?}, frames of {frame_len}, {point}"
                );
            }
        }
        // And again through us, at another level and with frames of another size.
        let level = [Compression::Lz4(1), Compression::None][usize::from(compression.is_some())];
        let options = ConvertOptions {
            compression: level,
            frame_len: frame_len / 2 + 1,
            check: true,
            workers: WORKERS,
        };
        let again = dir.path().join("again");
        convert(&BackupSet::open(&set).unwrap(), Shape::SamePoints, &again, options, &()).unwrap();
        for (number, want) in states[1..].iter().enumerate() {
            assert!(extracted(&again, &format!("virtnbdbackup.{number}")) == *want, "{frame_len}, {number}");
        }
        let release = Release::ALL[usize::from(compression == Some(4))];
        let restored = release.restored(&again, "vda", None, &dir.path().join("restored"));
        assert!(restored == states[3], "{release:?}, {compression:?} written again");
    }
}

#[test]
fn frames_of_4_kib() {
    levels_at(4 * KIB);
}

#[test]
fn frames_of_64_kib() {
    levels_at(64 * KIB);
}

#[test]
fn frames_of_2_mib() {
    levels_at(2 * MIB);
}

/// The largest that our writer makes: one byte less, so that the trailer has plain numbers.
#[test]
fn frames_of_32_mib() {
    levels_at(MAX_FRAME_LEN);
}

/// virtnbdbackup makes one frame of an extent, however long, and cuts it into pieces of 32 MiB.
#[test]
fn frames_of_more_than_32_mib_in_pieces() {
    let mut random = Random::seeded("ROUNDTRIP_SEED", 0x5eed_9999);
    let (size, len) = (72 * MIB, 66 * MIB + 4096);
    let content: Vec<u8> =
        (0..len / MIB + 1).flat_map(|_| content(&mut random, MIB as usize)).take(len as usize).collect();
    let mut frames = FrameHeader { kind: FrameKind::Data, start: MIB, len }.encode().to_vec();
    let pieces = content.chunks(MAX_PIECE_LEN as usize);
    let lens = pieces
        .map(|piece| codec::compress(piece, stream::Compression::Lz4(1), &mut frames).unwrap() as u64)
        .collect();
    frames.extend_from_slice(b"\r\n");
    let entries = String::from_utf8(trailer::encode(&[TrailerEntry::Pieces(lens)])).unwrap();
    let mut disk = vec![0; size as usize];
    disk[MIB as usize..][..content.len()].copy_from_slice(&content);

    let dir = tempfile::tempdir().unwrap();
    let (set, again) = (dir.path().join("set"), dir.path().join("again"));
    let blank = Link { size, alone: true, frames: vec![(0..4096, Some(vec![1; 4096]))] };
    write_chain(&set, &[blank], Form { compression: Some(1), frame_len: 4096, sidecars: false });
    std::fs::write(
        set.join("vda.full.data"),
        build(&meta(size, len, Some(stream::Compression::Lz4(1))), &frames, Some(&entries)),
    )
    .unwrap();
    std::fs::remove_file(set.join("vda.full.data.chksum")).unwrap();
    assert!(extracted(&set, "virtnbdbackup.0") == disk);
    for release in Release::ALL {
        let restored = release.restored(&set, "vda", None, &dir.path().join("restored"));
        assert!(restored == disk, "{release:?}");
    }
    let options = ConvertOptions {
        compression: Compression::Lz4(1),
        frame_len: MAX_FRAME_LEN,
        check: true,
        workers: WORKERS,
    };
    convert(&BackupSet::open(&set).unwrap(), Shape::SamePoints, &again, options, &()).unwrap();
    assert!(extracted(&again, "virtnbdbackup.0") == disk);
}
