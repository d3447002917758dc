//! The readers of one stream: header, meta text, trailer, LZ4 piece, the whole file, and the file with its sidecar.

use std::num::NonZeroUsize;

use vmstream::chain::{PointDisk, StreamEntry, open_file};
use vmstream::sidecar::{PlainSums, Recorder, Sidecar, StoredSums, Value};
use vmstream::stream::checksum::adler32;
use vmstream::stream::trailer::{self, TrailerEntry};
use vmstream::stream::writer::StreamWriter;
use vmstream::stream::{
    Compression, FRAME_HEADER_LEN, FrameHeader, FrameKind, StreamError, StreamFile, StreamMeta, codec,
};
use vmstream::verify::{Checksum, verify_stream};

use crate::structured::Structured;

/// Content that a run decodes at most: a stream of a few bytes may name gigabytes of zeros.
const DECODED_LEN: u64 = 16 << 20;

/// A header that is read means what is written again.
pub(crate) fn frame(input: &[u8]) {
    let Some(bytes) = input.first_chunk::<FRAME_HEADER_LEN>() else { return };
    match FrameHeader::parse(bytes) {
        Ok(header) => {
            assert_eq!(&header.encode(), bytes);
            assert_eq!(header.end(), header.start.checked_add(header.len));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A meta text that is read comes back the same when it is written, also into reserved room.
pub(crate) fn meta(input: &[u8]) {
    match StreamMeta::parse(input) {
        Ok(meta) => {
            let json = meta.to_json();
            assert_eq!(
                StreamMeta::parse(&json).unwrap(),
                StreamMeta { stream_version: meta.stream_version, ..meta.clone() }
            );
            let padded = meta.to_padded_json(json.len() + 7).unwrap();
            assert_eq!(padded.len(), json.len() + 7);
            assert_eq!(StreamMeta::parse(&padded).unwrap(), meta);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Entries that are read come back the same when they are written; none claims more than the file has.
pub(crate) fn trailer(input: &[u8]) {
    let limit = 1 << 24;
    match trailer::parse(input, limit) {
        Ok(entries) => {
            assert!(entries.iter().all(|entry| entry.stored_len().is_some_and(|len| len <= limit)));
            assert_eq!(trailer::parse(&trailer::encode(&entries), limit).unwrap(), entries);
            assert!(entries.len() <= input.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

type Decompress = fn(&[u8], usize, &mut Vec<u8>) -> Result<(), codec::CodecError>;

/// Two bytes say how much the piece shall hold, then come its stored bytes. What decodes has that length; and what
/// was compressed decodes to itself.
pub(crate) fn piece(input: &[u8]) {
    let mut input = Structured(input);
    let len = input.number(1 << 20) as usize;
    let stored = input.0;
    let mut out = Vec::new();
    let level = (len % 17) as u32;
    let methods: [(Compression, Decompress); 2] = [
        (Compression::Lz4(level), codec::decompress_lz4),
        (Compression::Zstd(1 + level % 4), codec::decompress_zstd),
    ];
    for (compression, decompress) in methods {
        match decompress(stored, len, &mut out) {
            Ok(()) => assert_eq!(out.len(), len),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let mut packed = Vec::new();
        let count = codec::compress(stored, compression, &mut packed).unwrap();
        assert_eq!(count, packed.len());
        decompress(&packed, stored.len(), &mut out).unwrap();
        assert_eq!(out, stored);
    }
}

/// The walk, the quick look and the verification agree about a file, and no piece lies outside of it.
pub(crate) fn stream(input: &[u8]) {
    let dir = crate::seeds::scratch();
    let path = dir.path().join("vda.full.data");
    std::fs::write(&path, input).unwrap();
    let mut decodes = true;
    let walk = StreamFile::open(&path).and_then(|stream| {
        let walk = walk(&stream, &mut decodes);
        match (&walk, stream.check_ends()) {
            (Ok(()), ends) => ends.unwrap(),
            (Err(_), Ok(())) => {}
            (Err(_), Err(error)) => assert!(!error.to_string().is_empty()),
        }
        stream.is_placeholder();
        stream.has_reserved_meta();
        walk
    });
    if let Err(error) = &walk {
        assert!(!error.to_string().is_empty());
    }
    let PointDisk::Stream(entry) = open_file(&path).unwrap() else { panic!("a full is a stream") };
    if entry.meta.as_ref().is_ok_and(|meta| meta.data_size <= DECODED_LEN) {
        verified(&entry, walk.is_ok() && decodes);
    }
}

fn verified(entry: &StreamEntry, good: bool) {
    let report = verify_stream(entry, NonZeroUsize::MIN, &|_| ());
    // Checksum files are for the chain.
    assert_eq!(!report.is_damaged(), good, "{report:?}");
    assert!(!report.is_unreadable(), "{report:?}");
    assert_eq!(report.checksum == Checksum::Missing, report.checksum != Checksum::Unknown);
    assert_eq!(verify_stream(entry, NonZeroUsize::new(2).unwrap(), &|_| ()), report);
}

fn walk(stream: &StreamFile, decodes: &mut bool) -> Result<(), StreamError> {
    let (mut at, mut decoded, mut data) = (0, 0, 0);
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for frame in stream.frames() {
        let frame = frame?;
        assert!(frame.disk().start >= at && frame.disk().start < frame.disk().end);
        assert!(frame.disk().end <= stream.meta().virtual_size);
        at = frame.disk().end;
        if frame.header.kind != FrameKind::Data {
            assert_eq!(frame.header.kind, FrameKind::Zero);
            continue;
        }
        data += frame.header.len;
        let mut piece_at = frame.disk().start;
        for piece in frame.pieces() {
            assert_eq!(piece.disk.start, piece_at);
            piece_at = piece.disk.end;
            assert!(piece.stored_at + piece.stored_len <= stream.file_len());
            decoded += piece.disk.end - piece.disk.start;
            if decoded <= DECODED_LEN {
                match stream.read_piece(&piece, &mut stored, &mut plain) {
                    Ok(()) => assert_eq!(plain.len() as u64, piece.disk.end - piece.disk.start),
                    Err(StreamError::Damaged(_)) => *decodes = false,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        assert_eq!(piece_at, frame.disk().end);
    }
    assert_eq!(data, stream.meta().data_size);
    Ok(())
}

/// Frames written, then read back: the same frames, content, meta text and checksum.
pub(crate) fn round_trip(input: &[u8]) {
    let mut input = Structured(input);
    let level = input.byte();
    let compression = match level % 4 {
        0 => None,
        1 | 3 => Some(Compression::Lz4(u32::from(level / 2 % 17))),
        _ => Some(Compression::Zstd(1 + u32::from(level / 4 % 4))),
    };
    let meta = StreamMeta {
        virtual_size: 1 << 40,
        data_size: 0,
        date: input.text(),
        disk_name: input.text(),
        disk_format: "qcow2".into(),
        checkpoint_name: format!("virtnbdbackup.{}", input.byte()),
        compression,
        parent_checkpoint: input.text(),
        incremental: level >= 128,
        stream_version: StreamMeta::version_for(compression),
    };
    let dir = crate::seeds::scratch();
    let path = dir.path().join("vda.full.data.partial");
    let mut writer = StreamWriter::create(&path, meta.clone()).unwrap();
    let mut want: Vec<(FrameKind, u64, Vec<u8>)> = Vec::new();
    let mut at = 0;
    while !input.is_empty() && want.len() < 64 {
        at += input.number(1 << 20);
        if input.byte() % 3 == 0 {
            let len = 1 + input.number(1 << 20);
            writer.zero(at, len).unwrap();
            want.push((FrameKind::Zero, at, vec![0; len as usize]));
            at += len;
        } else {
            let repeat = 1 + usize::from(input.byte() % 64);
            let some = 1 + usize::from(input.byte());
            let plain = [input.bytes(some), &[level]].concat().repeat(repeat);
            let stored = crate::seeds::stored(meta.compression, &plain);
            writer.data(at, plain.len() as u64, &stored).unwrap();
            at += plain.len() as u64;
            want.push((FrameKind::Data, at - plain.len() as u64, plain));
        }
    }
    let done = writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes.len() as u64, adler32(&bytes)), (done.size, done.adler32));
    let stream = StreamFile::open(&path).unwrap();
    assert_eq!(stream.meta(), &StreamMeta { data_size: done.data_size, ..meta });
    stream.check_ends().unwrap();
    let frames: Vec<_> = stream.frames().collect::<Result<_, _>>().unwrap();
    assert_eq!(frames.len(), want.len());
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for (frame, (kind, start, content)) in frames.iter().zip(&want) {
        assert_eq!(
            (frame.header.kind, frame.header.start, frame.header.len),
            (*kind, *start, content.len() as u64)
        );
        if *kind == FrameKind::Data {
            let mut read = Vec::new();
            for piece in frame.pieces() {
                stream.read_piece(&piece, &mut stored, &mut plain).unwrap();
                read.extend_from_slice(&plain);
            }
            assert!(&read == content, "content at {start}");
        }
    }
    let lens = frames.iter().filter(|frame| frame.header.kind == FrameKind::Data).count();
    assert_eq!(lens as u64, done.data_frames);
    let entries: Vec<_> = (0..done.data_frames).map(TrailerEntry::Plain).collect();
    assert_eq!(trailer::parse(&trailer::encode(&entries), done.size.max(64)).unwrap(), entries);
}

/// A disk of random content, recorded with its sidecar: the table is that of the content, and the blocks those of the
/// stream.
pub(crate) fn recorder_round_trip(input: &[u8]) {
    let mut input = Structured(input);
    let size = 1 + input.number(400_000);
    let level = (input.byte() % 2 == 0).then_some(Compression::Lz4(1));
    let mut disk = vec![0; size as usize];
    let (mut at, mut ranges) = (0, Vec::new());
    while !input.is_empty() && at < size {
        let end = size.min(at + 1 + input.number(150_000));
        let seed = input.byte();
        if seed % 4 > 0 {
            let fill = (at..end).map(|i| (i / u64::from(seed) * 31) as u8 | 1);
            disk[at as usize..end as usize].iter_mut().zip(fill).for_each(|(byte, new)| *byte = new);
        }
        ranges.push((at..end, seed % 4 > 0));
        at = end;
    }
    let dir = crate::seeds::scratch();
    let (stream_path, sidecar_path) = (dir.path().join("vda.full.data"), dir.path().join("vda.full.idx"));
    let meta = crate::seeds::meta(0, None, size, level);
    let mut recorder = Recorder::create(&stream_path, &sidecar_path, meta).unwrap();
    let granules = recorder.granules();
    for (range, data) in &ranges {
        let len = range.end - range.start;
        if !data {
            recorder.zero_content(range.start, len).unwrap();
            recorder.zero_frame(range.start, len).unwrap();
            continue;
        }
        let plain = &disk[range.start as usize..range.end as usize];
        let stored = crate::seeds::stored(level, plain);
        let sums = (PlainSums::of(range.start, plain, granules), StoredSums::of(&stored));
        recorder.data(range.start, len, &stored, (&sums.0, &sums.1)).unwrap();
    }
    let (done, writer) = recorder.finish().unwrap();
    writer.finish(&crate::seeds::head("vda.full.data", &done, granules)).unwrap();

    let sidecar = Sidecar::open(&sidecar_path).unwrap();
    sidecar.check().unwrap();
    assert_eq!(Sidecar::parse(std::fs::read(&sidecar_path).unwrap()).unwrap().head(), sidecar.head());
    let stream = StreamFile::open(&stream_path).unwrap();
    let frames: Vec<_> =
        stream.frames().map(Result::unwrap).filter(|f| f.header.kind == FrameKind::Data).collect();
    let blocks: Vec<_> = sidecar.blocks().map(Result::unwrap).collect();
    assert_eq!(blocks.len(), frames.len());
    for (block, frame) in blocks.iter().zip(&frames) {
        assert_eq!((block.disk(), block.stored_at), (frame.disk(), frame.stored_at));
        let plain = &disk[block.start as usize..][..block.plain_len as usize];
        assert_eq!(block.plain_crc32, crc32fast::hash(plain));
    }
    let mut known = std::collections::BTreeMap::new();
    for run in sidecar.runs().map(Result::unwrap) {
        known.extend(run.numbers().map(|number| (number, run.value(number, granules))));
    }
    for number in 0..granules.count() {
        let range = granules.range(number);
        let sum = crc32fast::hash(&disk[range.start as usize..range.end as usize]);
        // What was told to its last byte is known; of the rest nothing is said.
        let want = if range.end <= at { Value::Known(sum) } else { Value::Unknown };
        assert_eq!(known.get(&number).copied().unwrap_or(Value::Unknown), want, "granule {number} of {size}");
    }
}
