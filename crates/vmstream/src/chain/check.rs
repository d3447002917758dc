//! Holds the parts of a set against each other: nothing missing, nothing contradicting.

use super::config;
use super::diffs;
use super::ident::{CheckpointName, DiskTarget, PointId};
use super::listed::Listed;
use super::names::{SetFile, StreamKind};
use super::point::{Point, PointDisk, StreamEntry};
use super::problem::SetProblem;
use super::scan::Scan;
use super::set::BackupSet;
use super::times;
use crate::durable::partial_path;
use crate::sidecar::Sidecar;
use crate::stream::Compression;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Fills in the set's problems and the streams it misses.
pub(super) fn check(set: &mut BackupSet, scan: &Scan) {
    numbers(set);
    empty_points(set);
    traces(set, scan);
    lists(set, scan);
    for disk in set.disks() {
        holes(set, &disk);
        times::check(set, &disk);
    }
    let images: Vec<_> = set
        .problems
        .iter()
        .filter_map(|problem| match problem {
            SetProblem::ImageMissing { disk, .. } => Some(disk.clone()),
            _ => None,
        })
        .collect();
    for (point, disk) in set.missing.clone().into_iter().filter(|(_, disk)| !images.contains(disk)) {
        set.problems.push(SetProblem::StreamMissing { disk, point });
    }
    let mut found = Vec::new();
    for point in &set.points {
        for content in point.disks.values() {
            if let PointDisk::Stream(entry) = content {
                names(point, entry, &mut found);
            }
        }
        if point.vmconfig.is_none() {
            found.push(SetProblem::ConfigMissing { point: point.id });
        }
    }
    found.extend(mixed_suffixes(set).then_some(SetProblem::MixedSuffixes));
    found.extend(without_sidecar(set));
    set.problems.extend(found);
}

/// Sidecars without the file that they are about. That of a raw image proves the image lost, since no old program
/// moves such an image away from its set; unless the run that made it was killed before the image got its name.
pub(super) fn sidecars_alone(set: &mut BackupSet, sidecars: Vec<PathBuf>) {
    for path in sidecars {
        let Some((image, disk)) = lone_image(&path) else {
            set.problems.push(SetProblem::LoneSidecar { path });
            continue;
        };
        // A chain's image counts at all its points.
        set.missing.extend(set.points.iter().map(|point| (point.id, disk.clone())));
        set.problems.push(SetProblem::ImageMissing { path: image, disk });
    }
}

/// The raw image, and its disk, of a sidecar that was left alone with it committed.
pub(super) fn lone_image(sidecar: &Path) -> Option<(PathBuf, DiskTarget)> {
    let name = sidecar.file_name()?.to_str()?;
    let Some(SetFile::Sidecar { disk, kind: StreamKind::Copy }) = SetFile::parse(name) else { return None };
    let opened = Sidecar::open(sidecar).ok().filter(|sidecar| sidecar.head().is_of_raw_image())?;
    let own = sidecar.with_extension("data");
    let unfinished = partial_path(&own).is_some_and(|partial| partial.exists());
    let named = own.file_name().and_then(|name| name.to_str()) == Some(opened.head().stream.name.as_str());
    (named && !unfinished).then_some((own, disk))
}

/// A chain with streams that old readers see, and others that they do not.
fn mixed_suffixes(set: &BackupSet) -> bool {
    let streams =
        set.points.iter().flat_map(|point| point.disks.values()).filter_map(|content| match content {
            PointDisk::Stream(entry) => Some(entry.path.extension().is_some_and(|last| last == "zstd")),
            PointDisk::Raw(_) => None,
        });
    streams.collect::<BTreeSet<bool>>().len() > 1
}

/// Checkpoints count from 0 without gaps. What comes after a gap has lost a parent.
fn numbers(set: &mut BackupSet) {
    let mut want = Some(CheckpointName::FIRST);
    for point in &set.points {
        let PointId::Checkpoint(found) = point.id else { continue };
        if let Some(want) = want.filter(|want| *want != found) {
            set.problems.push(SetProblem::Gap { found, want });
            let disks = point.disks.keys().cloned();
            set.missing.extend(disks.map(|disk| (point.id, disk)));
        }
        want = found.next();
    }
}

/// A committed point without a single stream has lost those of every disk.
fn empty_points(set: &mut BackupSet) {
    let disks = set.disks();
    let is_stream = |content: &PointDisk| matches!(content, PointDisk::Stream(_));
    let any_streams = set.points.iter().any(|point| point.disks.values().any(is_stream));
    for point in &set.points {
        let chain = matches!(point.id, PointId::Checkpoint(_));
        if chain && !point.disks.values().any(is_stream) && (any_streams || point.disks.is_empty()) {
            set.problems.push(SetProblem::PointEmpty { point: point.id });
            let streamed = |disk: &DiskTarget| !point.disks.contains_key(disk);
            set.missing
                .extend(disks.iter().filter(|disk| streamed(disk)).map(|disk| (point.id, disk.clone())));
        }
    }
}

/// A checksum or image description without its stream tells that the stream was there.
fn traces(set: &mut BackupSet, scan: &Scan) {
    let known = |id: PointId| set.points.iter().find(|point| point.id == id);
    let first = set.points.iter().find(|point| matches!(point.id, PointId::Checkpoint(_)));
    let mut missing = Vec::new();
    for disk in scan.full_traces.iter().filter(|disk| !scan.waits_for(StreamKind::Full, disk)) {
        if let Some(first) = first.filter(|first| !first.disks.contains_key(disk)) {
            missing.push((first.id, disk.clone()));
        }
    }
    for (id, disk) in &scan.traces {
        match *id {
            PointId::Checkpoint(name) if scan.waits_for(StreamKind::Inc(name), disk) => {}
            PointId::Diff(seconds) => missing.extend(lost_difference(set, scan, seconds, disk)),
            _ if known(*id).is_some_and(|point| !point.disks.contains_key(disk)) => {
                missing.push((*id, disk.clone()));
            }
            _ => {}
        }
    }
    set.missing.extend(missing);
}

/// The difference that a file beside it tells of, unless its stream is there or on its way. No list names it, so it may
/// be gone as a point too.
fn lost_difference(
    set: &BackupSet,
    scan: &Scan,
    seconds: u64,
    disk: &DiskTarget,
) -> Option<(PointId, DiskTarget)> {
    let runs = || set.points.iter().filter(|point| diffs::is_of(point, seconds));
    let own = |point: &Point| match point.disks.get(disk) {
        Some(PointDisk::Stream(entry)) => entry.kind == StreamKind::Diff(seconds),
        _ => false,
    };
    let begun = |problem: &SetProblem| matches!(problem, SetProblem::Unfinished { point: PointId::Diff(at) } if *at <= seconds);
    let there = || {
        set.problems.iter().any(begun)
            || runs().any(|point| point.disks.contains_key(disk))
            || set.points.iter().any(own)
    };
    if scan.difference_waits(seconds, disk) || there() {
        return None;
    }
    let id = runs().next().map_or(PointId::Diff(seconds), |point| point.id);
    Some((id, disk.clone()))
}

/// The disks that a point must have: those that its sidecars list. Without such a list it is those that its domain XML names
/// and that had a stream at the point before; what else it names was perhaps left out.
fn lists(set: &mut BackupSet, scan: &Scan) {
    let (mut missing, mut nowhere) = (set.missing.clone(), BTreeMap::new());
    let anywhere = |disk: &DiskTarget| set.points.iter().any(|point| point.disks.contains_key(disk));
    let first = set.points.first().map(|first| first.id);
    let later = set.points.iter().skip(1).map(Listed::of);
    let streamed: BTreeSet<DiskTarget> = later.flat_map(|listed| listed.disks).collect();
    // An image that still waits for its name was never committed. It comes with the full, and is listed there alone.
    let waits = |point: &Point, disk: &DiskTarget| {
        Some(point.id) == first && !streamed.contains(disk) && !anywhere(disk) && scan.image_waits(disk)
    };
    for point in &set.points {
        let listed = Listed::of(point);
        let lost = |disk: &DiskTarget| (point.id, disk.clone());
        let there = |disk: &DiskTarget| point.disks.contains_key(disk) || waits(point, disk);
        missing.extend(listed.disks.iter().filter(|disk| !there(disk)).map(lost));
        // An image, which comes with the full alone, is missed at all points.
        let image_lost = |disk: &&DiskTarget| {
            let at_first = first.is_some_and(|first| missing.contains(&(first, (*disk).clone())));
            at_first && !anywhere(disk)
        };
        let images: Vec<_> = listed.left_out.iter().filter(image_lost).map(lost).collect();
        missing.extend(images);
        let named = point.vmconfig.as_deref().filter(|_| !listed.says_all).and_then(config::disks);
        let before = point.parent.map(PointId::Checkpoint);
        let before = set.points.iter().find(|part| Some(part.id) == before);
        for disk in named.unwrap_or_default() {
            if point.disks.contains_key(&disk) || missing.contains(&(point.id, disk.clone())) {
                continue;
            }
            let was_there = |before: &Point| match before.disks.get(&disk) {
                Some(PointDisk::Stream(entry)) => !entry.is_placeholder(),
                Some(PointDisk::Raw(_)) => false,
                None => missing.contains(&(before.id, disk.clone())),
            };
            if before.is_some_and(was_there) {
                missing.insert((point.id, disk));
            } else if !anywhere(&disk) {
                nowhere.entry(disk).or_insert(point.id);
            }
        }
    }
    set.missing = missing;
    set.problems.extend(nowhere.into_iter().map(|(disk, point)| SetProblem::NotBackedUp { disk, point }));
}

/// What has no sidecar where the same disk's stream before it has one, or that of another disk at the same point.
fn without_sidecar(set: &BackupSet) -> Vec<SetProblem> {
    let has = |part: &PointDisk| part.sidecar().is_some();
    let keeps_a_place = |part: &PointDisk| matches!(part, PointDisk::Stream(entry) if entry.is_placeholder());
    let (mut found, mut before) = (Vec::new(), None::<&Point>);
    for point in set.points.iter().filter(|point| diffs::seconds(point.id).is_none()) {
        for (disk, part) in &point.disks {
            let neighbour = before.and_then(|before| before.disks.get(disk)).is_some_and(has);
            if !has(part) && !keeps_a_place(part) && (neighbour || point.disks.values().any(has)) {
                found.push(SetProblem::NoSidecar { path: part.path().to_owned() });
            }
        }
        before = Some(point);
    }
    found
}

/// An increment needs a stream of its disk at the point before it, back to one that stands alone.
fn holes(set: &mut BackupSet, disk: &DiskTarget) {
    let mut missing = Vec::new();
    let mut before: Option<&Point> = None;
    for point in set.points.iter().filter(|point| matches!(point.id, PointId::Checkpoint(_))) {
        if let Some(PointDisk::Stream(entry)) = point.disks.get(disk) {
            let needs_parent = entry.meta.as_ref().is_ok_and(|meta| meta.incremental);
            match before {
                Some(before) if needs_parent && !before.disks.contains_key(disk) => {
                    missing.push((before.id, disk.clone()));
                }
                None if needs_parent => missing.push((point.id, disk.clone())),
                _ => {}
            }
        }
        before = Some(point);
    }
    set.missing.extend(missing);
}

/// A stream's meta text must tell the same as its name and place.
fn names(point: &Point, entry: &StreamEntry, found: &mut Vec<SetProblem>) {
    let Ok(meta) = &entry.meta else { return };
    let mut expect = |field, is: &str, want: String| {
        if is != want {
            let path = entry.path.clone();
            found.push(SetProblem::MetaMismatch { path, field, found: is.to_owned(), want });
        }
    };
    expect("diskName", &meta.disk_name, entry.disk.to_string());
    // Under another name old readers would apply it, and say nothing of what they cannot decode.
    let want = if entry.path.extension().is_some_and(|last| last == "zstd") { "zstd" } else { "lz4" };
    expect("compressionMethod", meta.compression.map_or("lz4", Compression::method), want.to_owned());
    if let PointId::Checkpoint(name) = point.id {
        expect("checkpointName", &meta.checkpoint_name, name.to_string());
        if let Some(parent) = point.parent.filter(|_| meta.incremental) {
            expect("parentCheckpoint", &meta.parent_checkpoint, parent.to_string());
        }
    }
}
