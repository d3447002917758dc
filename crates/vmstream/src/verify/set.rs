//! A whole set: every stream looked at, every problem of the folder, and what follows for each restore point.

use super::deep;
use super::finding::{Finding, Level};
use super::judge::Broken;
use super::options::{Depth, VerifyOptions, Watch};
use super::report::{FileReport, SetReport};
use super::sidecar;
use super::stream::{Reading, glance_at_stream, read_stream};
use super::stream_report::StreamReport;
use super::tpm;
use crate::chain::{BackupSet, PointDisk, SetProblem, Severity, StreamEntry};
use crate::regular;
use std::collections::BTreeSet;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes of a domain XML that are looked at.
const MAX_CONFIG_LEN: u64 = 16 << 20;

/// Streams up to this size are read by one thread each; larger ones by all threads, one after the other.
const SMALL_STREAM: u64 = 64 << 20;

/// Looks at a set as deep as asked for, and judges each restore point.
///
/// Never fails: what cannot be read or used is a finding. Leftovers and unfinished files are named, not read.
pub fn verify_set(set: &BackupSet, options: VerifyOptions, watch: &dyn Watch) -> SetReport {
    let entries: Vec<&StreamEntry> = entries(set).collect();
    let mut streams = verify_all(&entries, options, Decode::Unproven, watch);
    let images = Images::look(set, options.depth, watch);
    let mut findings = found(set, &streams, &images, options.depth);
    let judge = |findings: &[Finding]| {
        let broken = Broken::new(findings);
        set.points.iter().map(|point| broken.judge(set, point)).collect::<Vec<_>>()
    };
    let mut points = judge(&findings);
    let mut digests = Vec::new();
    if options.depth == Depth::Deep {
        let mut deep = deep::digests(set, &points, options.workers, watch);
        if read_again(&entries, &mut streams, &deep.sound, options) {
            findings = found(set, &streams, &images, options.depth);
            deep = deep::digests(set, &judge(&findings), options.workers, &());
        }
        digests = deep.digests;
        findings.extend(deep.findings);
        points = judge(&findings);
    }
    findings.sort_by_key(|finding| finding.level);
    SetReport {
        dir: set.dir.clone(),
        domain: set.domain.clone(),
        depth: options.depth,
        streams,
        proven_images: images.proven,
        points,
        digests,
        findings,
    }
}

/// Decodes the streams that putting disks together has not shown to be whole, unless they are known to be damaged: to find
/// where. True when that tells something new.
fn read_again(
    entries: &[&StreamEntry],
    streams: &mut [StreamReport],
    sound: &BTreeSet<PathBuf>,
    options: VerifyOptions,
) -> bool {
    let left = |report: &StreamReport| {
        !sound.contains(&report.path) && !report.is_damaged() && !report.is_unreadable()
    };
    let numbers: Vec<_> = (0..entries.len()).filter(|number| left(&streams[*number])).collect();
    let left: Vec<_> = numbers.iter().map(|number| entries[*number]).collect();
    let mut news = false;
    for (number, report) in numbers.into_iter().zip(verify_all(&left, options, Decode::All, &())) {
        news |= streams[number] != report;
        streams[number] = report;
    }
    news
}

/// All that is found before disks are put together.
fn found(set: &BackupSet, streams: &[StreamReport], images: &Images, depth: Depth) -> Vec<Finding> {
    let mut findings: Vec<Finding> = set.problems.iter().map(|problem| of_problem(set, problem)).collect();
    streams.iter().for_each(|report| of_stream(report, depth, &mut findings));
    findings.extend(images.findings.iter().cloned());
    if depth != Depth::Quick {
        let blamed: BTreeSet<_> = findings.iter().map(|finding| finding.path.clone()).collect();
        let usable = |path: &Path| streams.iter().all(|report| report.path != path || report.has_sidecar);
        let found = sidecar::files(set, usable).into_iter();
        findings.extend(found.filter(|finding| !blamed.contains(&finding.path)));
        findings.extend(tpm::check(set));
    }
    findings
}

/// What was found in the files of the points that are no streams.
struct Images {
    findings: Vec<Finding>,
    /// Raw images that are what was backed up.
    proven: usize,
}

impl Images {
    fn look(set: &BackupSet, depth: Depth, watch: &dyn Watch) -> Self {
        let mut images = Self { findings: Vec::new(), proven: 0 };
        for point in &set.points {
            images.findings.extend(point.vmconfig.as_deref().and_then(config_finding));
            for content in point.disks.values() {
                let PointDisk::Raw(image) = content else { continue };
                if depth == Depth::Quick {
                    images.findings.extend(sidecar::glance_at_image(image));
                    continue;
                }
                let found = sidecar::read_raw(image, watch);
                images.proven += usize::from(found.is_empty());
                images.findings.extend(found);
            }
        }
        images
    }
}

/// Looks at one file alone: nothing is said about restore points.
pub fn verify_file(file: &PointDisk, options: VerifyOptions, watch: &dyn Watch) -> FileReport {
    match file {
        PointDisk::Raw(image) => {
            let findings = match options.depth {
                Depth::Quick => sidecar::glance_at_image(image).into_iter().collect(),
                _ => sidecar::read_raw(image, watch),
            };
            FileReport { path: image.path.clone(), depth: options.depth, stream: None, findings }
        }
        PointDisk::Stream(entry) => {
            let mut streams = verify_all(&[entry], options, Decode::All, watch);
            let mut findings = Vec::new();
            streams.iter().for_each(|report| of_stream(report, options.depth, &mut findings));
            findings.sort_by_key(|finding| finding.level);
            FileReport { path: entry.path.clone(), depth: options.depth, stream: streams.pop(), findings }
        }
    }
}

fn of_stream(report: &StreamReport, depth: Depth, findings: &mut Vec<Finding>) {
    findings.extend(report.findings.iter().cloned());
    // What is wrong with a small file beside it says nothing of the stream, nor proves it.
    let of_stream = |finding: &&Finding| finding.path == report.path;
    let only_warnings =
        report.findings.iter().filter(of_stream).all(|finding| finding.level == Level::Warning);
    if report.proof.is_none() && only_warnings && depth != Depth::Quick {
        let message =
            "no usable checksum file or sidecar: nothing proves it, nor that each frame is in its place"
                .to_owned();
        findings.push(Finding::about(Level::Unproven, &report.path, message));
    }
}

/// Bytes that a verification will read.
pub fn total_bytes(set: &BackupSet, depth: Depth) -> u64 {
    let all: u64 = set.points.iter().flat_map(|point| point.disks.values()).map(PointDisk::file_len).sum();
    match depth {
        Depth::Quick => 0,
        Depth::Content => all,
        // Once as they lie there, once to put the disks together.
        Depth::Deep => 2 * all,
    }
}

fn entries(set: &BackupSet) -> impl Iterator<Item = &StreamEntry> {
    set.points.iter().flat_map(|point| point.disks.values()).filter_map(|content| match content {
        PointDisk::Stream(entry) => Some(entry.as_ref()),
        PointDisk::Raw(_) => None,
    })
}

/// What of the streams is decoded in a deep look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decode {
    /// What their stored bytes do not prove. The rest is decoded to put disks together.
    Unproven,
    All,
}

/// Reports in the order of the entries, whichever thread made them.
fn verify_all(
    entries: &[&StreamEntry],
    options: VerifyOptions,
    decode: Decode,
    watch: &dyn Watch,
) -> Vec<StreamReport> {
    let quick = options.depth == Depth::Quick;
    let read = |bytes| watch.read(bytes);
    let digest = options.depth == Depth::Deep;
    let how = |workers| Reading { workers, content: digest && decode == Decode::All, digest, read: &read };
    let alone = |entry: &StreamEntry| quick || entry.file_len <= SMALL_STREAM;
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::with_capacity(entries.len()));
    let keep = |number, report| {
        reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, report));
    };
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(entry) = entries.get(number) else { return };
        if quick {
            keep(number, glance_at_stream(entry));
        } else if alone(entry) {
            keep(number, read_stream(entry, how(NonZeroUsize::MIN)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.workers.get().min(entries.len()) {
            scope.spawn(work);
        }
        work();
    });
    for (number, entry) in entries.iter().enumerate().filter(|(_, entry)| !alone(entry)) {
        keep(number, read_stream(entry, how(options.workers)));
    }
    let mut reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn of_problem(set: &BackupSet, problem: &SetProblem) -> Finding {
    if let SetProblem::LoneSidecar { path } = problem {
        if let Some(finding) = sidecar::glance_at_lone(path) {
            return finding;
        }
    }
    let level = match problem.severity() {
        Severity::Damage => Level::Damage,
        Severity::Doubt => Level::Unproven,
        Severity::Warning => Level::Warning,
    };
    let path = match problem {
        SetProblem::ListDamaged { path, .. }
        | SetProblem::ListShort { path, .. }
        | SetProblem::Leftover { path }
        | SetProblem::Partial { path }
        | SetProblem::LoneSidecar { path }
        | SetProblem::ImageMissing { path, .. }
        | SetProblem::Exchanged { path, .. }
        | SetProblem::Doubtful { path }
        | SetProblem::Unjoined { path, .. }
        | SetProblem::NoSidecar { path }
        | SetProblem::MetaMismatch { path, .. } => path,
        SetProblem::TimeOrder { later, .. } => later,
        _ => &set.dir,
    };
    Finding::about(level, path, problem.to_string())
}

/// A domain XML that is cut off or no XML at all.
fn config_finding(path: &Path) -> Option<Finding> {
    let mut bytes = Vec::new();
    let read = regular::open(path).and_then(|file| file.take(MAX_CONFIG_LEN).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Some(Finding::about(Level::Unreadable, path, error.to_string()));
    }
    let whole = bytes.trim_ascii().ends_with(b"</domain>");
    let message = "the domain's definition is cut off or damaged: the disks can be restored, it cannot";
    (!whole).then(|| Finding::about(Level::Damage, path, message.to_owned()))
}
