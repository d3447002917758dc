//! The reader of any part of a disk: what it gives is what an extraction gives.

use std::num::NonZeroUsize;
use std::ops::Range;

use vmstream::chain::{BackupSet, DiskTarget, PointId};
use vmstream::disk::{Check, Disk, DiskOptions, Proof};
use vmstream::restore::extract_to;

use crate::chain::{DISK_LEN, unpack};
use crate::structured::Structured;

/// Bytes at the beginning of an input that say which ranges are read.
pub(crate) const RANGES_LEN: usize = 64;

/// A folder is read, and ranges of each of its disks at each point.
pub(crate) fn disk(input: &[u8]) {
    let (ranges, files) = input.split_at(RANGES_LEN.min(input.len()));
    let dir = crate::seeds::scratch();
    unpack(files, dir.path());
    let Ok(set) = BackupSet::open(dir.path()) else { return };
    for point in &set.points {
        for target in set.disks_at(point) {
            read(&set, &target, point.id, ranges);
        }
    }
}

fn read(set: &BackupSet, target: &DiskTarget, point: PointId, ranges: &[u8]) {
    // Small enough that some of it goes.
    let options = |check| DiskOptions { check, content_bytes: 100_000, index_bytes: 10_000 };
    let first = Disk::open(set, target, point, options(Check::First), &|_| ());
    let skipped = Disk::open(set, target, point, options(Check::Skip), &|_| ());
    let Ok(skipped) = skipped else {
        assert!(first.is_err(), "what is checked can be opened without");
        return;
    };
    let (size, mut ranges) = (skipped.size(), Structured(ranges));
    if size > DISK_LEN {
        // Walked as far as it is listed, not as far as it claims.
        skipped.extents(0..size).take(1000).for_each(drop);
        let _ = skipped.read_at(size - 1, &mut [0]);
        return;
    }
    let mut image = Vec::new();
    let extracted = extract_to(set, target, point, &mut image, NonZeroUsize::MIN, &());
    while !ranges.is_empty() {
        let start = ranges.number(size);
        let range = start..start + ranges.number(size - start).min(300_000);
        for (disk, is_checked) in first.iter().map(|disk| (disk, true)).chain([(&skipped, false)]) {
            let Some((bytes, proof)) = bytes(disk, &range) else { continue };
            let is_told = is_checked || proof == Proof::Proven;
            if extracted.is_ok() && is_told {
                let want = &image[range.start as usize..range.end as usize];
                assert!(bytes == want, "{target} of {point}, {range:?}, {proof:?}");
            }
        }
    }
    let mut at = 0;
    for extent in skipped.extents(0..size) {
        let Ok(extent) = extent else { return };
        assert!(extent.disk.start == at && at < extent.disk.end);
        at = extent.disk.end;
    }
    assert_eq!(at, size);
}

fn bytes(disk: &Disk, range: &Range<u64>) -> Option<(Vec<u8>, Proof)> {
    let mut bytes = vec![0xee; (range.end - range.start) as usize];
    match disk.read_at(range.start, &mut bytes) {
        Ok(proof) => Some((bytes, proof)),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}
