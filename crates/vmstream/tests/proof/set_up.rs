//! Sets of ours, verified and extracted.

use crate::ours::Ours;
use crate::program::wait_until_free;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use vmstream::chain::BackupSet;
use vmstream::restore::{ExtractError, ExtractOptions, Format, extract};
use vmstream::verify::{Depth, Finding, SetReport, VerifyOptions, verify_set};

pub(super) fn verify(dir: &Path, depth: Depth) -> SetReport {
    let set = BackupSet::open(dir).unwrap();
    verify_set(&set, VerifyOptions { depth, workers: NonZeroUsize::MIN }, &())
}

/// Findings but those about times, which no test here keeps.
pub(super) fn findings(report: &SetReport) -> Vec<&Finding> {
    report
        .findings
        .iter()
        .filter(|finding| !finding.message.contains("not newer by a whole second"))
        .collect()
}

pub(super) fn good_points(report: &SetReport) -> usize {
    report.points.iter().filter(|point| point.is_good()).count()
}

pub(super) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

pub(super) fn options(check: bool) -> ExtractOptions {
    ExtractOptions { replace: true, format: Format::Raw, check, workers: NonZeroUsize::new(2).unwrap() }
}

pub(super) fn no_image(
    ours: &Ours,
    disk: &str,
    point: &str,
    check: bool,
) -> Result<vmstream::restore::Extracted, ExtractError> {
    let set = BackupSet::open(ours.dir()).unwrap();
    let options = ExtractOptions { replace: true, format: Format::Raw, check, workers: NonZeroUsize::MIN };
    let image = ours.path("out.img");
    wait_until_free(&image);
    extract(&set, &disk.parse().unwrap(), point.parse().unwrap(), &image, options, &())
}
