//! Chains that differ, their files, and what is made of them.

use crate::ours::{Change, DISK, GRANULE, Ours};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, PointId};
use vmstream::convert::{Compression, ConvertOptions, Shape, convert};
use vmstream::restore::{ExtractError, pipe_to};
use vmstream::stream::writer::FRAME_LEN;
use vmstream::verify::{Depth, Level, SetReport, VerifyOptions, Worth, verify_set};

pub(super) const NEWEST: u32 = 3;

pub(super) fn verified(dir: &Path, depth: Depth) -> SetReport {
    verify_set(&BackupSet::open(dir).unwrap(), VerifyOptions { depth, workers: NonZeroUsize::MIN }, &())
}

pub(super) fn worths(report: &SetReport) -> Vec<Worth> {
    report.points.iter().map(|point| point.worth()).collect()
}

pub(super) fn damaged(report: &SetReport) -> Vec<PathBuf> {
    let mut found: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.level == Level::Damage)
        .map(|found| found.path.clone())
        .collect();
    found.dedup();
    found
}

pub(super) fn at(number: u32) -> PointId {
    format!("virtnbdbackup.{number}").parse().unwrap()
}

pub(super) fn extracted(
    dir: &Path,
    disk: &str,
    point: PointId,
    check: bool,
) -> Result<Vec<u8>, ExtractError> {
    let (set, mut image) = (BackupSet::open(dir).unwrap(), Vec::new());
    pipe_to(&set, &disk.parse().unwrap(), point, (&mut image, check), NonZeroUsize::MIN, &()).map(|_| image)
}

pub(super) fn convert_to(
    dir: &Path,
    shape: Shape,
    to: &Path,
    check: bool,
) -> Result<(), vmstream::convert::ConvertError> {
    let (compression, workers) = (Compression::Lz4(1), NonZeroUsize::MIN);
    let options = ConvertOptions { compression, frame_len: FRAME_LEN, check, workers };
    convert(&BackupSet::open(dir).unwrap(), shape, to, options, &()).map(drop)
}

/// A chain whose content, and whose domain, are told from others by the seed.
pub(super) fn chain(points: u32, seed: u8, tag: &'static str) -> Ours {
    let mut ours = Ours::empty(Some(1));
    ours.tag = tag;
    ours.raw[0] = seed;
    let mut disk = vec![seed; DISK];
    ours.add(disk.clone(), &[Change::Data(0..DISK)]);
    for number in 1..points as usize {
        disk[number * GRANULE..number * GRANULE + 100].fill(seed + 1);
        ours.add(disk.clone(), &[Change::Data(number * GRANULE..(number + 1) * GRANULE)]);
    }
    ours
}

/// A point's files that bear the name of the disk, and all others.
pub(super) fn files_of(number: u32) -> (Vec<String>, Vec<String>) {
    let ident = format!("virtnbdbackup.{number}");
    let name = if number == 0 { "vda.full".to_owned() } else { format!("vda.inc.{ident}") };
    let mut own: Vec<_> = ["data", "data.chksum", "idx"].iter().map(|end| format!("{name}.{end}")).collect();
    own.push(format!("vda.{ident}.qcow.json"));
    let beside =
        [format!("vmconfig.{ident}.xml"), format!("checkpoints/{ident}.xml"), format!("VARS.fd.{ident}")];
    (own, beside.into())
}

pub(super) fn take(files: &[String], from: &Ours, to: &Ours) {
    for name in files {
        fs::copy(from.path(name), to.path(name)).unwrap();
    }
}

pub(super) fn remove(dir: &Path, which: impl Fn(&str) -> bool) {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let gone: Vec<_> = paths.filter(|path| which(path.file_name().unwrap().to_str().unwrap())).collect();
    assert!(!gone.is_empty());
    gone.iter().for_each(|path| fs::remove_file(path).unwrap());
}

pub(super) fn lost(report: &SetReport) -> Vec<String> {
    report.points.iter().filter(|point| point.is_lost()).map(|point| point.id.to_string()).collect()
}
