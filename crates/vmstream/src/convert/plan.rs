//! What a new set is made of, as a value: decided before anything is written.

use super::contents::{NewFile, NewImage, NewLink, NewPoint, NewStream, NewTpm};
use super::error::ConvertError;
use super::listing::{Owner, TPM_MARKER, at, is_of, listing, modified, owner};
use super::options::Shape;
use super::tpm::{TpmFolders, is_of_another_chain};
use crate::chain::{
    BackupSet, CheckpointName, DiskContent, DiskTarget, Point, PointDisk, PointId, SetFile, SetProblem,
    Severity, StreamKind, cpt,
};
use crate::sidecar::LeftOut;
use crate::verify::{Finding, Level, sidecar, tpm};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// All that will be written.
pub(super) struct Plan<'a> {
    /// Oldest first.
    pub(super) points: Vec<NewPoint<'a>>,
    /// Files that belong to no point.
    pub(super) files: Vec<NewFile>,
    pub(super) links: Vec<NewLink>,
    /// The checkpoint list's name, where the points are a chain.
    pub(super) list: Option<String>,
    /// What speaks against the files that it is made of, and was passed over.
    pub(super) passed_over: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Holds the files that are copied as they are against what the old sidecars and identity files say of them: the new
    /// ones would call right what is there. Without the check, sidecars that are in doubt themselves say nothing.
    pub(super) fn check_files(&self, set: &BackupSet, check: bool) -> Result<(), ConvertError> {
        let all = self.points.iter().flat_map(|point| &point.files).chain(&self.files);
        let copied: BTreeSet<&Path> = all.map(|file| file.from.as_path()).collect();
        let entries = || set.points.iter().flat_map(|point| point.disks.values());
        let counts = |path: &Path| {
            let own = entries().find(|entry| entry.path() == path);
            let is_heard = check || set.against(path).next().is_none();
            is_heard && own.is_some_and(|entry| matches!(entry.open_sidecar(), Some(Ok(_))))
        };
        let found = sidecar::files(set, counts).into_iter().chain(tpm::check(set));
        let problem = |finding: Finding| format!("{}: {}", finding.path.display(), finding.message);
        let damaged = found.filter(|finding| finding.level == Level::Damage);
        let problems: Vec<_> =
            damaged.filter(|finding| copied.contains(finding.path.as_path())).map(problem).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConvertError::DamagedSet { problems })
    }

    pub(super) fn of(set: &'a BackupSet, shape: Shape, check: bool) -> Result<Self, ConvertError> {
        if set.points.is_empty() {
            return Err(ConvertError::NoPoints { dir: set.dir.clone() });
        }
        if set.points.iter().any(|point| point.definition.is_some()) {
            return Err(ConvertError::DefinitionOnly { dir: set.dir.clone() });
        }
        match shape {
            Shape::SamePoints => Self::same_points(set),
            Shape::Full(point) => Self::full(set, point, check),
        }
    }

    /// Bytes that will be read.
    pub(super) fn total_bytes(&self) -> u64 {
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
        let of_point = |point: &NewPoint<'_>| {
            let streams = point.streams.iter().flat_map(|stream| &stream.sources).map(|entry| entry.file_len);
            let images = point.images.iter().map(|image| image.source.len);
            streams.chain(images).chain(point.files.iter().map(|file| len(&file.from))).sum::<u64>()
        };
        let files: u64 = self.files.iter().map(|file| len(&file.from)).sum();
        self.points.iter().map(of_point).sum::<u64>() + files
    }

    /// Every stream again, everything else as it is.
    fn same_points(set: &'a BackupSet) -> Result<Self, ConvertError> {
        refuse(set.problems.iter().filter(|problem| problem.severity() == Severity::Damage))?;
        refuse_doubt(set.problems.iter().filter(|problem| problem.severity() == Severity::Doubt))?;
        let times = times(set);
        let mut plan = Self {
            points: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            list: None,
            passed_over: Vec::new(),
        };
        for point in &set.points {
            let mut new = NewPoint::new(point.id, times[&point.id]);
            new.left_out = left_out(point);
            new.left_out.extend(images_before(set, &new));
            for (disk, content) in &point.disks {
                let disk = disk.clone();
                match content {
                    PointDisk::Stream(entry) => {
                        let (kind, shape, sources) = (entry.kind, Shape::SamePoints, vec![entry.as_ref()]);
                        new.streams.push(NewStream { kind, disk, shape, sources, in_doubt: false });
                    }
                    PointDisk::Raw(source) => {
                        new.images.push(NewImage { disk, source, taken: point.id, in_doubt: false });
                    }
                }
            }
            plan.points.push(new);
        }
        for (name, from) in listing(&set.dir)? {
            if is_of_another_chain(set, &name)? {
                continue;
            }
            let owner = owner(&name);
            if let Owner::Point(id, _) = &owner {
                if let Some(point) = plan.points.iter_mut().find(|point| is_of(set, *id, point.id)) {
                    let time = point.time;
                    point.files.push(NewFile { name, from, time, secret: false });
                    continue;
                }
            }
            // What is of a checkpoint that is no point was left by a run that did not finish.
            if matches!(owner, Owner::Set | Owner::Point(PointId::Diff(_) | PointId::Copy, _)) {
                let time = modified(&from)?;
                plan.files.push(NewFile { name, from, time, secret: false });
            }
        }
        let tpm = TpmFolders::of(set)?;
        for (id, new) in tpm.all(|id| set.points.iter().any(|point| point.id == id))? {
            plan.add_tpm(id, new);
        }
        plan.add_list(set);
        Ok(plan)
    }

    /// One full of what makes up the disks at a point, and that point's other files.
    fn full(set: &'a BackupSet, id: PointId, check: bool) -> Result<Self, ConvertError> {
        let point = set.point(id)?;
        let first = PointId::Checkpoint(CheckpointName::FIRST);
        if id == PointId::Copy {
            return Err(ConvertError::NotAChain { point: id });
        }
        let mut new = NewPoint::new(first, times(set)[&id]);
        new.left_out = left_out(point);
        let doubted = |path: &Path| set.against(path).next().is_some();
        for disk in set.disks_at(point) {
            match set.content(&disk, id)? {
                DiskContent::Streams(sources) => {
                    let (kind, shape) = (StreamKind::Full, Shape::Full(id));
                    let in_doubt = sources.last().is_some_and(|newest| doubted(&newest.path));
                    new.streams.push(NewStream { kind, disk, shape, sources, in_doubt });
                }
                DiskContent::Raw { image, taken } => {
                    let in_doubt = doubted(&image.path);
                    new.images.push(NewImage { disk, source: image, taken, in_doubt });
                }
            }
        }
        let has = |disk: &str| new.images.iter().any(|image| image.disk.as_str() == disk);
        let left_out = new.left_out.iter().filter(|one| !has(&one.disk)).cloned().collect();
        new.left_out = left_out;
        let streams = new.streams.iter().flat_map(|stream| &stream.sources).map(|entry| entry.path.as_path());
        let images = new.images.iter().map(|image| image.source.path.as_path());
        let parts: Vec<&Path> = streams.chain(images).collect();
        let needed = |path: &Path| parts.contains(&path);
        refuse(set.problems.iter().filter(|problem| match problem {
            SetProblem::MetaMismatch { path, .. }
            | SetProblem::Exchanged { path, .. }
            | SetProblem::Unjoined { path, .. } => check && needed(path),
            SetProblem::ConfigMissing { point } => *point == id,
            SetProblem::ListMissing | SetProblem::ListDamaged { .. } | SetProblem::ListShort { .. } => true,
            _ => false,
        }))?;
        refuse_doubt(set.problems.iter().filter(|problem| match problem {
            SetProblem::Doubtful { path } => check && needed(path),
            _ => false,
        }))?;
        let against = set.problems.iter().filter(|problem| problem.blamed().is_some_and(needed));
        let passed_over = against.map(SetProblem::to_string).collect();
        let (mut files, tpm) = (Vec::new(), TpmFolders::of(set)?);
        for (name, from) in listing(&set.dir)? {
            if is_of_another_chain(set, &name)? {
                continue;
            }
            match owner(&name) {
                Owner::Point(point, Some(file)) if is_of(set, point, id) => {
                    let (name, time) = (at(file, first).to_string(), new.time);
                    new.files.push(NewFile { name, from, time, secret: false });
                }
                Owner::Set if name.contains('/') || (name == TPM_MARKER && tpm.newest_is_at(id)?) => {
                    let time = modified(&from)?;
                    files.push(NewFile { name, from, time, secret: false });
                }
                _ => {}
            }
        }
        let mut plan = Self { points: vec![new], files, links: Vec::new(), list: None, passed_over };
        tpm.at(id)?.into_iter().for_each(|new| plan.add_tpm(Some(first), new));
        plan.add_list(set);
        Ok(plan)
    }

    /// The checkpoint list as it is at a point.
    pub(super) fn list_at(&self, id: PointId) -> Vec<u8> {
        let upto = self.points.iter().position(|point| point.id == id).map_or(0, |place| place + 1);
        let names = self.points[..upto].iter().filter_map(|point| match point.id {
            PointId::Checkpoint(name) => Some(name),
            _ => None,
        });
        cpt::encode(&names.collect::<Vec<_>>())
    }

    /// Adds what a TPM left, to a point if it is of one.
    fn add_tpm(&mut self, id: Option<PointId>, new: NewTpm) {
        let point = self.points.iter_mut().find(|point| Some(point.id) == id);
        match (new, point) {
            (NewTpm::Link(link), _) => self.links.push(link),
            (NewTpm::Folder(files), None) => self.files.extend(files),
            (NewTpm::Folder(files), Some(point)) => {
                let time = point.time;
                point.files.extend(files.into_iter().map(|file| NewFile { time, ..file }));
            }
        }
    }

    fn add_list(&mut self, set: &BackupSet) {
        let chain = self.points.iter().any(|point| matches!(point.id, PointId::Checkpoint(_)));
        let list = |domain: &String| SetFile::CheckpointList { domain: domain.clone() }.to_string();
        self.list = set.domain.as_ref().filter(|_| chain).map(list);
    }
}

/// What the sidecars of a point say of disks that it does not have; all say the same.
fn left_out(point: &Point) -> Vec<LeftOut> {
    let heads = point.disks.values().filter_map(|part| Some(part.open_sidecar()?.ok()?.head().clone()));
    heads.map(|head| head.left_out).find(|left_out| !left_out.is_empty()).unwrap_or_default()
}

/// The raw disks of the full, which a later point does not have again: where their images are lost, all points miss them.
fn images_before(set: &BackupSet, new: &NewPoint<'_>) -> Vec<LeftOut> {
    let Some(first) = set.points.first().filter(|first| first.id != new.id) else { return Vec::new() };
    let images = first.disks.iter().filter(|(_, content)| matches!(content, PointDisk::Raw(_)));
    let named = |disk: &DiskTarget| new.left_out.iter().any(|one| one.disk == disk.as_str());
    let reason = || "raw disk, copied with the full".to_owned();
    let disks = images.map(|(disk, _)| disk).filter(|disk| !named(disk));
    disks.map(|disk| LeftOut { disk: disk.to_string(), reason: reason() }).collect()
}

/// Nothing is made of a set that misses something: what is lost there would be lost without a trace.
fn refuse<'a>(problems: impl Iterator<Item = &'a SetProblem>) -> Result<(), ConvertError> {
    let problems: Vec<String> = problems.map(SetProblem::to_string).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConvertError::DamagedSet { problems }) }
}

/// Nor of one of which nobody can tell whether it is what was backed up: the new sidecars would call it that.
fn refuse_doubt<'a>(problems: impl Iterator<Item = &'a SetProblem>) -> Result<(), ConvertError> {
    let problems: Vec<String> = problems.map(SetProblem::to_string).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConvertError::Doubtful { problems }) }
}

/// One time for all files of a point, in whole seconds and rising, also where those of the set are not.
fn times(set: &BackupSet) -> BTreeMap<PointId, SystemTime> {
    let mut next = 0;
    let time = |point: &Point| {
        let newest = point.disks.values().map(PointDisk::modified).max();
        let since = newest.and_then(|newest| newest.duration_since(UNIX_EPOCH).ok());
        let seconds = since.map_or(0, |since| since.as_secs()).max(next);
        next = seconds + 1;
        (point.id, UNIX_EPOCH + Duration::from_secs(seconds))
    };
    set.points.iter().map(time).collect()
}
