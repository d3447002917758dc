//! Sets, converted and held against what they were.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use vmstream::chain::{BackupSet, PointId};
use vmstream::convert::{Compression, ConvertError, ConvertOptions, Shape, convert};
use vmstream::restore::extract_to;
use vmstream::verify::{Depth, DiskDigest, Finding, Level, Verdict, VerifyOptions, verify_set};

pub(super) const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

pub(super) fn options(compression: Compression) -> ConvertOptions {
    ConvertOptions { compression, frame_len: 2 << 20, check: true, workers: WORKERS }
}

pub(super) fn converted(
    from: &Path,
    shape: Shape,
    to: &Path,
    compression: Compression,
) -> Result<(), ConvertError> {
    convert(&BackupSet::open(from).unwrap(), shape, to, options(compression), &()).map(drop)
}

pub(super) fn point(name: &str) -> PointId {
    name.parse().unwrap()
}

/// Digests of all disks at all points of a set in which nothing is wrong.
pub(super) fn digests(dir: &Path) -> Vec<DiskDigest> {
    let set = BackupSet::open(dir).unwrap();
    let report = verify_set(&set, VerifyOptions { depth: Depth::Deep, workers: WORKERS }, &());
    // A raw image that virtnbdbackup made is proven by nothing.
    let unproven = report.findings.iter().any(|found| found.level == Level::Unproven);
    let may_be = |found: &Finding| match found.level {
        Level::Warning => true,
        Level::Unproven => found.path.ends_with("vdb.copy.data"),
        Level::Damage | Level::Unreadable => false,
    };
    assert!(report.findings.iter().all(may_be), "{:?}", report.findings);
    let want = if unproven { Verdict::CannotTell } else { Verdict::Good };
    assert_eq!(report.verdict(), want, "{:?}", report.findings);
    let wrong =
        report.digests.iter().filter_map(|found| found.checked.as_ref()).any(|found| !found.wrong.is_empty());
    assert!(!wrong, "{:?}", report.digests);
    // What proves them is another matter.
    report.digests.into_iter().map(|found| DiskDigest { checked: None, ..found }).collect()
}

/// The disk as it was at a point.
pub(super) fn disk_at(dir: &Path, disk: &str, at: PointId) -> Vec<u8> {
    let mut bytes = Vec::new();
    extract_to(&BackupSet::open(dir).unwrap(), &disk.parse().unwrap(), at, &mut bytes, WORKERS, &()).unwrap();
    bytes
}

/// Every file below a folder: content and time.
pub(super) fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let about = path.metadata().unwrap();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            found.insert(name, (std::fs::read(&path).unwrap(), about.modified().unwrap()));
        }
    }
    found
}

/// What lies beside a set that was to be converted into `new`.
pub(super) fn left(new: &Path) -> Vec<String> {
    let name = new.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir(new.parent().unwrap()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|found| found.starts_with(name))
        .collect()
}

pub(super) fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
