//! The stream reader against the golden streams and against hostile files.

use crate::golden;
use crate::golden::{Golden, build_plain, data_header};
use std::path::Path;
use vmstream::stream::{
    FrameHeader, FrameKind, MAX_PIECE_LEN, Problem, StreamError, StreamFile, TrailerMismatch,
};

#[test]
fn walks_every_golden_stream() {
    let golden = Golden::extract();
    let mut streams = 0;
    for path in golden.streams() {
        let stream = StreamFile::open(&path).unwrap();
        let (mut data, mut plain, mut stored) = (0, Vec::new(), Vec::new());
        for frame in stream.frames() {
            let frame = frame.unwrap();
            if frame.header.kind != FrameKind::Data {
                continue;
            }
            for piece in frame.pieces() {
                stream.read_piece(&piece, &mut stored, &mut plain).unwrap();
                data += plain.len() as u64;
            }
        }
        assert_eq!(data, stream.meta().data_size, "{}", path.display());
        streams += 1;
    }
    assert_eq!(streams, 12);
}

#[test]
fn a_golden_frame_of_36_mib_comes_in_two_pieces() {
    let golden = Golden::extract();
    let stream = StreamFile::open(&golden.lz4().join("vda.full.data")).unwrap();
    let big: Vec<_> = stream.frames().map(Result::unwrap).filter(|f| f.header.len >= MAX_PIECE_LEN).collect();
    let data: Vec<_> = big.iter().filter(|f| f.header.kind == FrameKind::Data).collect();
    assert_eq!(data.len(), 1);
    let lens: Vec<u64> = data[0].pieces().map(|piece| piece.stored_len).collect();
    assert_eq!(lens, [140_312, 17_560]);
}

fn first_error(path: &Path) -> StreamError {
    match StreamFile::open(path) {
        Err(error) => error,
        Ok(stream) => stream.frames().find_map(Result::err).expect("no error found"),
    }
}

fn problem(bytes: &[u8]) -> Problem {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vda.full.data");
    std::fs::write(&path, bytes).unwrap();
    match first_error(&path) {
        StreamError::Damaged(damage) => damage.problem,
        error => panic!("{error}"),
    }
}

#[test]
fn hostile_frames_are_named() {
    let body = |headers: &[(u64, u64)]| {
        let mut bytes = Vec::new();
        for (start, len) in headers {
            bytes.extend_from_slice(&data_header(*start, *len));
            bytes.extend(std::iter::repeat_n(7u8, (*len).min(4096) as usize));
            bytes.extend_from_slice(b"\r\n");
        }
        build_plain(1 << 20, 8192, &bytes)
    };
    assert!(matches!(problem(&body(&[(4096, 4096), (4095, 4096)])), Problem::OutOfOrder { .. }));
    assert!(matches!(problem(&body(&[(0, 4096), (0, 4096)])), Problem::OutOfOrder { .. }));
    assert!(matches!(problem(&body(&[(1 << 20, 1)])), Problem::PastDisk { .. }));
    assert!(matches!(problem(&body(&[(u64::MAX, 2)])), Problem::PastDisk { .. }));
    assert!(matches!(problem(&body(&[(0, 1 << 20)])), Problem::CutOff { .. }));
    assert!(matches!(problem(&body(&[(0, 0)])), Problem::Empty));
    assert!(matches!(problem(&body(&[(0, 4096)])), Problem::DataSize { .. }));
    let mut after = body(&[(0, 4096), (4096, 4096)]);
    after.push(b'x');
    assert!(matches!(problem(&after), Problem::BytesAfterEnd { extra: 1 }));
}

#[test]
fn hostile_lengths_cost_nothing() {
    let meta = |len| FrameHeader { kind: FrameKind::Meta, start: 0, len }.encode();
    assert!(matches!(problem(&meta(u64::MAX)), Problem::MetaTooLong { .. }));
    assert!(matches!(problem(&meta(1 << 19)), Problem::CutOff { .. }));
    assert!(matches!(problem(b""), Problem::NotAStream { .. }));
    assert!(matches!(problem(&[0; 5000]), Problem::NotAStream { .. }));
    // A disk of 2^62 bytes in one frame: its trailer entry would need 2^37 pieces.
    for trailer in ["[{\"9\": [9]}]", "[18446744073709551615]", "[1]", "[]", "[\"", "[1, 1]"] {
        let bytes = golden::build_lz4(1 << 62, 1 << 62, &data_header(0, 1 << 62), trailer);
        assert!(matches!(
            problem(&bytes),
            Problem::Trailer(_)
                | Problem::TrailerMismatch(
                    TrailerMismatch::Form | TrailerMismatch::TooFew | TrailerMismatch::StoredLen { .. }
                )
        ));
    }
    let mut huge = golden::build_lz4(4096, 0, b"", "[]");
    let comp = huge.len() - 40;
    huge[comp..].copy_from_slice(&FrameHeader { kind: FrameKind::Comp, start: 0, len: u64::MAX }.encode());
    assert!(matches!(problem(&huge), Problem::CutOff { .. }));
}

#[test]
fn an_empty_stream_of_each_form_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("plain", build_plain(0, 0, b"")), ("lz4", golden::build_lz4(0, 0, b"", "[]"))] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(StreamFile::open(&path).unwrap().frames().count(), 0, "{name}");
    }
}

/// Opens, walks and reads all a file gives; the answer does not matter, only that there is one.
fn read_all(path: &Path) -> Result<(), StreamError> {
    let stream = StreamFile::open(path)?;
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for frame in stream.frames() {
        let frame = frame?;
        if frame.header.kind == FrameKind::Data {
            for piece in frame.pieces() {
                stream.read_piece(&piece, &mut stored, &mut plain)?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_cut_fails_and_no_changed_byte_panics() {
    let golden = Golden::extract();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hurt");
    let plain = build_plain(8192, 512, &[&data_header(512, 512)[..], &[9; 512], b"\r\n"].concat());
    for good in [std::fs::read(golden.lz4().join("vdb.inc.virtnbdbackup.1.data")).unwrap(), plain] {
        std::fs::write(&path, &good).unwrap();
        read_all(&path).unwrap();
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(read_all(&path).is_err(), "cut at {len}");
        }
        for at in 0..good.len() {
            for bit in [1, 0x40] {
                let mut bad = good.clone();
                bad[at] ^= bit;
                std::fs::write(&path, &bad).unwrap();
                let _ = read_all(&path);
            }
        }
    }
}
