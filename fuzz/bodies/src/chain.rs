//! The readers of a folder: names, the checkpoint list, the whole set with its block maps and its disks.

use std::fs::{File, FileTimes};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, SystemTime};

use vmstream::chain::{BackupSet, DiskContent, PointDisk, PointId, SetFile, Tree, cpt};
use vmstream::doctor::diagnose;
use vmstream::restore::{BlockMap, Layer, Source, Units, pipe_to};
use vmstream::stream::FrameKind;
use vmstream::verify::{Depth, DiskVerdict, VerifyOptions, verify_set};

use crate::structured::Structured;

/// Disks up to this size are put together; of larger ones only the map is looked at.
///
/// The work of putting a disk together grows with the size that a stream claims, and a claim costs nothing.
pub(crate) const DISK_LEN: u64 = 4 << 20;

/// A name that is read is the name that is built.
pub(crate) fn names(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else { return };
    if let Some(file) = SetFile::parse(name) {
        assert_eq!(file.to_string(), name);
    }
    if let Ok(id) = name.parse::<PointId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.ident().parse(), Ok(id));
    }
}

/// A list that is read is in order and comes back the same when it is written.
pub(crate) fn checkpoint_list(input: &[u8]) {
    match cpt::parse(input) {
        Ok(names) => {
            assert!(names.is_sorted_by(|one, next| one < next));
            assert_eq!(cpt::parse(&cpt::encode(&names)).unwrap(), names);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Files as one input: for each the length of its name, the name, its age, the length of its content, the content.
pub(crate) fn pack(files: &[(String, u8, Vec<u8>)]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, age, content) in files {
        packed.push(name.len() as u8);
        packed.extend_from_slice(name.as_bytes());
        packed.push(*age);
        packed.extend_from_slice(&(content.len() as u32).to_be_bytes()[1..]);
        packed.extend_from_slice(content);
    }
    packed
}

pub(crate) fn unpack(input: &[u8], dir: &Path) {
    let mut input = Structured(input);
    for _ in 0..64 {
        if input.is_empty() {
            return;
        }
        let len = input.byte();
        let name = String::from_utf8_lossy(input.bytes(len.into())).into_owned();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + u64::from(input.byte()));
        let len = input.bytes(3).iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let content = input.bytes(len);
        if !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']) && name.len() < 256 {
            std::fs::write(dir.join(&name), content).unwrap();
            let file = File::options().write(true).open(dir.join(name)).unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        }
    }
}

/// A folder is read, judged and put together; what is called good can be put together, and holds what a slow and
/// plain reading of the streams gives.
pub(crate) fn chain(input: &[u8]) {
    let dir = crate::seeds::scratch();
    unpack(input, dir.path());
    Tree::of(dir.path());
    let set = match BackupSet::open(dir.path()) {
        Ok(set) => set,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    diagnose(&set);
    let workers = NonZeroUsize::MIN;
    verify_set(&set, VerifyOptions { depth: Depth::Quick, workers }, &());
    let small = set.points.iter().flat_map(|point| point.disks.values()).all(|disk| match disk {
        PointDisk::Stream(entry) => entry.meta.as_ref().map_or(0, |meta| meta.virtual_size) <= DISK_LEN,
        PointDisk::Raw(_) => true,
    });
    let depth = if small { Depth::Deep } else { Depth::Content };
    let report = verify_set(&set, VerifyOptions { depth, workers }, &());
    for finding in &report.findings {
        assert!(!finding.message.is_empty());
    }
    for point in &report.points {
        for (disk, verdict) in &point.disks {
            let good = matches!(verdict, DiskVerdict::Good | DiskVerdict::Unproven { .. });
            let content = set.content(disk, point.id);
            assert!(content.is_ok() || !good, "{} of {} is {verdict:?}", disk, point.id);
            let Ok(DiskContent::Streams(entries)) = content else { continue };
            let layers: Result<Vec<_>, _> = entries.iter().map(|e| Layer::open(e.path.clone())).collect();
            let Ok(layers) = layers else { continue };
            let map = walk_map(&layers);
            assert!(map.is_some() || !good, "{} of {} is {verdict:?}", disk, point.id);
            if small && map.is_some() {
                let mut image = Vec::new();
                let extracted = pipe_to(&set, disk, point.id, (&mut image, false), workers, &());
                assert!(extracted.is_ok() || !good, "{extracted:?}, {verdict:?}");
                if extracted.is_ok() {
                    assert!(image == plain_reading(&layers), "{disk} of {}", point.id);
                }
            }
        }
    }
}

/// Bytes of the disk, when every segment could be had.
fn walk_map(layers: &[Layer]) -> Option<u64> {
    let mut map = BlockMap::new(layers);
    let size = map.size();
    let mut at = 0;
    for segment in &mut map {
        let Ok(segment) = segment else { return None };
        assert!(segment.disk.start == at && at < segment.disk.end && segment.disk.end <= size);
        at = segment.disk.end;
        if let Source::Piece { layer, piece } = segment.source {
            assert!(layer < layers.len());
            assert!(piece.disk.start <= segment.disk.start && segment.disk.end <= piece.disk.end);
        }
    }
    assert_eq!(at, size);
    let visible: u64 = Units::new(layers)
        .map(|unit| unit.unwrap().visible.iter().map(|range| range.end - range.start).sum::<u64>())
        .sum();
    assert!(visible <= size);
    Some(size)
}

/// One stream after the other, whole, over a disk in memory.
fn plain_reading(layers: &[Layer]) -> Vec<u8> {
    let mut disk: Vec<u8> = Vec::new();
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for Layer { stream, .. } in layers {
        if !stream.is_placeholder() {
            disk.resize(stream.meta().virtual_size as usize, 0);
        }
        for frame in stream.frames() {
            let frame = frame.unwrap();
            if frame.header.kind == FrameKind::Data {
                for piece in frame.pieces() {
                    // A piece that newer streams hide need not decode.
                    if stream.read_piece(&piece, &mut stored, &mut plain).is_ok() {
                        disk[piece.disk.start as usize..piece.disk.end as usize].copy_from_slice(&plain);
                    }
                }
            } else if !stream.meta().incremental {
                disk[frame.disk().start as usize..frame.disk().end as usize].fill(0);
            }
        }
    }
    disk
}
