//! What a new set is made of, as a value: decided before anything is written.

use super::{ConvertError, RawCopy, Shape};
use crate::chain::{
    BackupSet, CheckpointName, DiskContent, DiskTarget, PointDisk, PointId, SetFile, SetProblem, Severity,
    StreamEntry, StreamKind, cpt,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Folders inside a set that belong to it.
const FOLDERS: [&str; 3] = ["checkpoints", "config", "tpm-state"];

/// Hidden files that belong to a set.
const HIDDEN: [&str; 2] = [".tpm-backup-marker", ".copy-state.json"];

/// All that will be written.
pub(super) struct Plan<'a> {
    pub(super) points: Vec<PointId>,
    pub(super) streams: Vec<NewStream<'a>>,
    /// Files that are copied as they are, raw images too.
    pub(super) files: Vec<NewFile>,
    pub(super) raw_images: Vec<RawCopy>,
    /// The checkpoint list: name, content, time.
    pub(super) list: Option<(String, Vec<u8>, SystemTime)>,
}

/// A stream to write.
pub(super) struct NewStream<'a> {
    pub(super) name: String,
    pub(super) disk: DiskTarget,
    pub(super) time: SystemTime,
    pub(super) shape: Shape,
    /// What it is made of, oldest first; at least one.
    pub(super) sources: Vec<&'a StreamEntry>,
}

/// A file to copy.
pub(super) struct NewFile {
    pub(super) name: String,
    pub(super) from: PathBuf,
    pub(super) time: SystemTime,
}

impl<'a> Plan<'a> {
    pub(super) fn of(set: &'a BackupSet, shape: Shape) -> Result<Self, ConvertError> {
        if set.points.is_empty() {
            return Err(ConvertError::NoPoints { dir: set.dir.clone() });
        }
        match shape {
            Shape::SamePoints => Self::same_points(set),
            Shape::Full(point) => Self::full(set, point),
        }
    }

    /// Every stream again, everything else as it is.
    fn same_points(set: &'a BackupSet) -> Result<Self, ConvertError> {
        refuse(set.problems.iter().filter(|problem| problem.severity() == Severity::Damage))?;
        let times = times(set);
        let mut plan = Self::empty(set.points.iter().map(|point| point.id).collect());
        for point in &set.points {
            let time = times[&point.id];
            for (disk, content) in &point.disks {
                match content {
                    PointDisk::Stream(entry) => plan.streams.push(NewStream {
                        name: entry.kind.file_name(disk),
                        disk: disk.clone(),
                        time,
                        shape: Shape::SamePoints,
                        sources: vec![entry],
                    }),
                    PointDisk::Raw(image) => plan.raw(disk, &image.path, time, point.id),
                }
            }
        }
        for (name, from) in listing(&set.dir)? {
            let time = match owner(&name) {
                Owner::Chain => continue,
                // Left by a run that did not finish: no part of any point.
                Owner::Point(PointId::Checkpoint(id), _)
                    if !plan.points.contains(&PointId::Checkpoint(id)) =>
                {
                    continue;
                }
                Owner::Point(point, _) => times.get(&point).copied(),
                Owner::Set => None,
            };
            let time = time.map_or_else(|| modified(&from), Ok)?;
            plan.files.push(NewFile { name, from, time });
        }
        plan.list(set, &times);
        Ok(plan)
    }

    /// One full of what makes up the disks at a point, and that point's other files.
    fn full(set: &'a BackupSet, id: PointId) -> Result<Self, ConvertError> {
        let point = set.point(id)?;
        let first = PointId::Checkpoint(CheckpointName::FIRST);
        if id == PointId::Copy {
            return Err(ConvertError::NotAChain { point: id });
        }
        let time = times(set)[&id];
        let mut plan = Self::empty(vec![first]);
        for disk in set.disks_at(point) {
            match set.content(&disk, id)? {
                DiskContent::Streams(sources) => plan.streams.push(NewStream {
                    name: StreamKind::Full.file_name(&disk),
                    disk,
                    time,
                    shape: Shape::Full(id),
                    sources,
                }),
                DiskContent::Raw { image, taken } => plan.raw(&disk, &image.path, time, taken),
            }
        }
        let needed: Vec<&PathBuf> =
            plan.streams.iter().flat_map(|stream| &stream.sources).map(|entry| &entry.path).collect();
        refuse(set.problems.iter().filter(|problem| match problem {
            SetProblem::MetaMismatch { path, .. } => needed.contains(&path),
            SetProblem::ConfigMissing { point } => *point == id,
            SetProblem::ListMissing | SetProblem::ListDamaged { .. } => true,
            _ => false,
        }))?;
        for (name, from) in listing(&set.dir)? {
            let (name, time) = match owner(&name) {
                Owner::Point(point, Some(file)) if point == id => (at(file, first).to_string(), time),
                Owner::Set if name.contains('/') || name.starts_with('.') => (name, modified(&from)?),
                _ => continue,
            };
            plan.files.push(NewFile { name, from, time });
        }
        plan.list(set, &BTreeMap::from([(first, time)]));
        Ok(plan)
    }

    fn empty(points: Vec<PointId>) -> Self {
        Self { points, streams: Vec::new(), files: Vec::new(), raw_images: Vec::new(), list: None }
    }

    fn raw(&mut self, disk: &DiskTarget, from: &Path, time: SystemTime, taken: PointId) {
        let name = StreamKind::Copy.file_name(disk);
        self.raw_images.push(RawCopy { file: name.clone(), disk: disk.clone(), taken });
        self.files.push(NewFile { name, from: from.to_owned(), time });
    }

    /// The list of the plan's points, where they are a chain.
    fn list(&mut self, set: &BackupSet, times: &BTreeMap<PointId, SystemTime>) {
        let names: Vec<CheckpointName> = self
            .points
            .iter()
            .filter_map(|point| match point {
                PointId::Checkpoint(name) => Some(*name),
                _ => None,
            })
            .collect();
        let newest = times.values().max().copied();
        if let (Some(domain), Some(time), false) = (&set.domain, newest, names.is_empty()) {
            let name = SetFile::CheckpointList { domain: domain.clone() }.to_string();
            self.list = Some((name, cpt::encode(&names), time));
        }
    }
}

/// Nothing is made of a set that misses something: what is lost there would be lost without a trace.
fn refuse<'a>(problems: impl Iterator<Item = &'a SetProblem>) -> Result<(), ConvertError> {
    let problems: Vec<String> = problems.map(SetProblem::to_string).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConvertError::DamagedSet { problems }) }
}

/// One time for all files of a point, in whole seconds and rising, also where those of the set are not.
fn times(set: &BackupSet) -> BTreeMap<PointId, SystemTime> {
    let mut next = 0;
    let time = |point: &crate::chain::Point| {
        let newest = point.disks.values().map(PointDisk::modified).max();
        let since = newest.and_then(|newest| newest.duration_since(UNIX_EPOCH).ok());
        let seconds = since.map_or(0, |since| since.as_secs()).max(next);
        next = seconds + 1;
        (point.id, UNIX_EPOCH + Duration::from_secs(seconds))
    };
    set.points.iter().map(time).collect()
}

/// What a file of a set belongs to.
enum Owner {
    /// The chain as a whole: streams, their checksums, the list. They are made anew.
    Chain,
    /// A point. Checkpoint descriptions, which have no name of this kind, do not come with a file.
    Point(PointId, Option<SetFile>),
    /// The set, or nobody knows.
    Set,
}

fn owner(name: &str) -> Owner {
    if let Some(checkpoint) = name.strip_prefix("checkpoints/").and_then(|file| file.strip_suffix(".xml")) {
        return checkpoint.parse().map_or(Owner::Set, |name| Owner::Point(PointId::Checkpoint(name), None));
    }
    let Some(file) = SetFile::parse(name) else { return Owner::Set };
    let point = match &file {
        SetFile::Stream { .. }
        | SetFile::Checksum { .. }
        | SetFile::Sidecar { .. }
        | SetFile::CheckpointList { .. } => return Owner::Chain,
        SetFile::Log { .. } => return Owner::Set,
        SetFile::VmConfig(point) | SetFile::Autostart(point) | SetFile::OsInfo(point) => *point,
        SetFile::QcowInfo { point, .. }
        | SetFile::BitlockerKey { point, .. }
        | SetFile::BootFile { point, .. } => *point,
    };
    Owner::Point(point, Some(file))
}

/// The same file of another point.
fn at(file: SetFile, to: PointId) -> SetFile {
    match file {
        SetFile::VmConfig(_) => SetFile::VmConfig(to),
        SetFile::Autostart(_) => SetFile::Autostart(to),
        SetFile::OsInfo(_) => SetFile::OsInfo(to),
        SetFile::QcowInfo { disk, .. } => SetFile::QcowInfo { disk, point: to },
        SetFile::BitlockerKey { volume, .. } => SetFile::BitlockerKey { volume, point: to },
        SetFile::BootFile { base, .. } => SetFile::BootFile { base, point: to },
        other => other,
    }
}

/// The files of a set by their names inside it: every visible finished file (the firmware of a copy has a name of its
/// own), and those in its folders.
fn listing(dir: &Path) -> Result<Vec<(String, PathBuf)>, ConvertError> {
    let mut files = Vec::new();
    list_into(dir, "", &mut files)?;
    files.sort();
    Ok(files)
}

fn list_into(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), ConvertError> {
    let failed = |source| ConvertError::Read { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        let inside = !prefix.is_empty();
        let is_dir = std::fs::metadata(&path).is_ok_and(|about| about.is_dir());
        if is_dir && (inside || FOLDERS.contains(&name.as_str())) {
            list_into(&path, &format!("{prefix}{name}/"), files)?;
        }
        let hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
        let foreign = hidden || name.ends_with(".partial") || name == "chain-manifest.json";
        if !is_dir && (inside || !foreign) {
            files.push((format!("{prefix}{name}"), path));
        }
    }
    Ok(())
}

fn modified(path: &Path) -> Result<SystemTime, ConvertError> {
    let about = std::fs::metadata(path).and_then(|about| about.modified());
    about.map_err(|source| ConvertError::Read { path: path.to_owned(), source })
}
