//! One pass over a folder: which files of the format are there.

use super::bonds::Bond;
use super::cpt;
use super::definition::Definition;
use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::{SetFile, StreamKind, StreamSuffix, is_same_run};
use super::point::{PointDisk, RawImage, SidecarProblem, StreamEntry};
use crate::durable::PARTIAL;
use crate::sidecar::Sidecar;
use crate::stream::{Problem, StreamError, StreamFile};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Files that belong to a stream, by it.
#[derive(Debug, Default)]
struct Beside {
    checksums: BTreeMap<(StreamKind, DiskTarget, StreamSuffix), PathBuf>,
    sidecars: BTreeMap<(StreamKind, DiskTarget), PathBuf>,
}

impl Beside {
    fn note(&mut self, file: &SetFile, path: &Path) {
        let path = path.to_owned();
        match file {
            SetFile::Checksum { disk, kind, suffix } => {
                self.checksums.insert((*kind, disk.clone(), *suffix), path);
            }
            SetFile::Sidecar { disk, kind } => {
                self.sidecars.insert((*kind, disk.clone()), path);
            }
            _ => {}
        }
    }

    /// The checksum file and the sidecar of a stream.
    fn take(
        &mut self,
        key: &(StreamKind, DiskTarget),
        suffix: StreamSuffix,
    ) -> (Option<PathBuf>, Option<PathBuf>) {
        let (kind, disk) = key.clone();
        (self.checksums.remove(&(kind, disk, suffix)), self.sidecars.remove(key))
    }
}

/// What a folder holds, sorted by what it is.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) streams: BTreeMap<(StreamKind, DiskTarget), PointDisk>,
    /// Streams whose place another one has already.
    pub(super) second: Vec<PointDisk>,
    pub(super) partials: Vec<PathBuf>,
    /// The runs and disks of those.
    partial_streams: BTreeSet<(StreamKind, DiskTarget)>,
    /// A checkpoint list under its unfinished name: the run that wrote it has not committed its point.
    waiting_list: Option<PathBuf>,
    /// The same of a copy's domain XML, which commits a copy.
    copy_waits: bool,
    pub(super) lists: Vec<PathBuf>,
    pub(super) vmconfigs: BTreeMap<PointId, PathBuf>,
    /// A copy that has no disk on purpose.
    pub(super) definition: Option<Definition>,
    /// Runs that left a trace of a disk beside its stream: checksum or image description.
    pub(super) traces: BTreeSet<(PointId, DiskTarget)>,
    /// Checksum files of fulls; which checkpoint that is, the list says.
    pub(super) full_traces: BTreeSet<DiskTarget>,
    /// Sidecars without the file that they are about.
    pub(super) lone_sidecars: Vec<PathBuf>,
    /// Folders inside, for a hint when there is no set here.
    pub(super) folders: Vec<PathBuf>,
}

impl Scan {
    /// True when there is a restore point, or what is left of one.
    pub(super) fn is_set(&self) -> bool {
        !self.streams.is_empty() || !self.lists.is_empty() || self.definition.is_some()
    }

    /// True when a stream waits for its name, and so does the list that will commit it: what has its name already of what
    /// belongs to it tells of no loss.
    pub(super) fn waits_for(&self, kind: StreamKind, disk: &DiskTarget) -> bool {
        self.waiting_list.is_some() && self.partial_streams.contains(&(kind, disk.clone()))
    }

    /// True when the stream of a difference of that run waits for its name. No list commits it.
    pub(super) fn difference_waits(&self, seconds: u64, disk: &DiskTarget) -> bool {
        self.partial_streams.iter().any(|(kind, waiting)| {
            waiting == disk && matches!(kind, StreamKind::Diff(at) if is_same_run(*at, seconds))
        })
    }

    /// True when a copy, or a chain's first point, waits to be committed: without its list or its domain XML what is here
    /// is of that one, or on its way to an archive.
    pub(super) fn set_waits(&self) -> bool {
        let list = self.waiting_list.as_deref().and_then(|path| cpt::read(path).ok());
        self.copy_waits || list.is_some_and(|names| names == [CheckpointName::FIRST])
    }

    /// True when a stream or image of that run is being written.
    pub(super) fn is_writing(&self, run: impl Fn(StreamKind) -> bool) -> bool {
        self.partial_streams.iter().any(|(kind, _)| run(*kind))
    }

    /// True when the raw image of a disk waits for its name.
    pub(super) fn image_waits(&self, disk: &DiskTarget) -> bool {
        self.partial_streams.contains(&(StreamKind::Copy, disk.clone()))
    }

    fn note_waiting(&mut self, name: &str, path: &Path) {
        match name.strip_suffix(PARTIAL).and_then(SetFile::parse) {
            Some(SetFile::CheckpointList { .. }) => self.waiting_list = Some(path.to_owned()),
            Some(SetFile::VmConfig(PointId::Copy)) => self.copy_waits = true,
            _ => {}
        }
    }

    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let mut scan = Self::default();
        let mut beside = Beside::default();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            // Of a link that leads in a circle, what can be known is itself.
            let about = match std::fs::metadata(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Err(error),
                _ => entry.metadata(),
            }) {
                Ok(about) => about,
                // Renamed or removed while we look, or a link to nowhere: not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if about.is_dir() {
                scan.folders.push(path);
                continue;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            scan.note_waiting(name, &path);
            if let Some(file) = SetFile::parse(name) {
                beside.note(&file, &path);
                names.push((file, path, about));
            }
        }
        names.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
        scan.folders.sort();
        for (file, path, about) in names {
            scan.take(file, path, &about, &mut beside)?;
        }
        scan.lone_sidecars = beside.sidecars.into_values().collect();
        if !scan.is_set() && scan.vmconfigs.contains_key(&PointId::Copy) {
            scan.definition = Definition::of(dir);
        }
        Ok(scan)
    }

    fn take(
        &mut self,
        file: SetFile,
        path: PathBuf,
        about: &std::fs::Metadata,
        beside: &mut Beside,
    ) -> io::Result<()> {
        match file {
            SetFile::Stream { disk, kind, partial: true, .. } => {
                self.partials.push(path);
                self.partial_streams.insert((kind, disk));
            }
            SetFile::Stream { disk, kind, suffix, partial: false } => {
                let key = (kind, disk);
                let content = describe(&key, path, about, beside.take(&key, suffix))?;
                // `.data` comes before `.zstd`: it is what old readers would apply.
                match self.streams.entry(key) {
                    Entry::Vacant(place) => drop(place.insert(content)),
                    Entry::Occupied(_) => self.second.push(content),
                }
            }
            SetFile::Checksum { disk, kind, .. } => match kind {
                StreamKind::Full => {
                    self.full_traces.insert(disk);
                }
                StreamKind::Inc(name) => {
                    self.traces.insert((PointId::Checkpoint(name), disk));
                }
                StreamKind::Diff(epoch) => {
                    self.traces.insert((PointId::Diff(epoch), disk));
                }
                StreamKind::Copy => {
                    self.traces.insert((PointId::Copy, disk));
                }
            },
            // That of a difference has the second in which the run ended, its stream that in which it began: virtnbdbackup.
            SetFile::QcowInfo { point: PointId::Diff(_), .. } => {}
            SetFile::QcowInfo { disk, point } => {
                self.traces.insert((point, disk));
            }
            SetFile::CheckpointList { .. } => self.lists.push(path),
            SetFile::VmConfig(point) => {
                self.vmconfigs.insert(point, path);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A file on its own. Where its name says nothing, its meta text does; a raw image must be called `DISK.copy.data`.
///
/// # Errors
/// When its attributes cannot be read. Damage is in what comes back.
pub fn open_file(path: &Path) -> io::Result<PointDisk> {
    let about = std::fs::metadata(path)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let key = match SetFile::parse(name) {
        Some(SetFile::Stream { disk, kind, .. }) => (kind, disk),
        _ => {
            let meta = StreamFile::open(path).map(|stream| stream.meta().disk_name.parse()).ok();
            let unknown = || "unknown".parse().map_err(io::Error::other);
            (StreamKind::Full, meta.and_then(Result::ok).map_or_else(unknown, Ok)?)
        }
    };
    let mut checksum = path.as_os_str().to_owned();
    checksum.push(".chksum");
    // Not `is_file`: what is there and cannot be read is no reason to take it for absent.
    let there = |other: PathBuf| Some(other).filter(|other| other.symlink_metadata().is_ok());
    let beside = (there(checksum.into()), there(path.with_extension("idx")));
    describe(&key, path.to_owned(), &about, beside)
}

/// Reads a stream's meta text. A `copy` without checksum file that is no stream is a raw image.
fn describe(
    key: &(StreamKind, DiskTarget),
    path: PathBuf,
    about: &std::fs::Metadata,
    (checksum, sidecar): (Option<PathBuf>, Option<PathBuf>),
) -> io::Result<PointDisk> {
    let modified = about.modified()?;
    let (kind, disk) = key.clone();
    let stream = StreamFile::open(&path);
    let placeholder = stream.as_ref().is_ok_and(StreamFile::is_placeholder);
    let meta = stream.map(|stream| stream.meta().clone());
    let no_stream = matches!(&meta, Err(StreamError::Damaged(damage)) if matches!(damage.problem, Problem::NotAStream { .. }));
    let may_be_raw = path.extension().is_some_and(|last| last == "data");
    if kind == StreamKind::Copy && may_be_raw && checksum.is_none() && no_stream {
        let image = RawImage { path, disk, modified, len: about.len(), sidecar, bond: None };
        return Ok(PointDisk::Raw(RawImage {
            bond: bond(image.open_sidecar(), kind).map(Box::new),
            ..image
        }));
    }
    let file_len = about.len();
    let mut entry = StreamEntry {
        path,
        disk,
        kind,
        modified,
        file_len,
        checksum,
        sidecar,
        meta,
        placeholder,
        bond: None,
    };
    entry.bond = bond(entry.open_sidecar(), kind);
    Ok(PointDisk::Stream(Box::new(entry)))
}

fn bond(sidecar: Option<Result<Sidecar, SidecarProblem>>, kind: StreamKind) -> Option<Bond> {
    Some(Bond::of(&sidecar?.ok()?, kind))
}
