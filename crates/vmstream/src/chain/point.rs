//! A restore point and what its folder holds for each disk of it.

use super::bonds::Bond;
use super::definition::Definition;
use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::StreamKind;
use crate::causes::with_causes;
use crate::sidecar::{Sidecar, SidecarError, Tables};
use crate::stream::{StreamError, StreamMeta, checksum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One completed backup.
#[derive(Debug)]
pub struct Point {
    /// Its name.
    pub id: PointId,
    /// The checkpoint it builds on: the one before it, or a difference's base. `None` for a full and a copy.
    pub parent: Option<CheckpointName>,
    /// What was stored for each disk. A disk may lack here: added later, removed, or lost (see the set's problems).
    pub disks: BTreeMap<DiskTarget, PointDisk>,
    /// The domain XML of that moment.
    pub vmconfig: Option<PathBuf>,
    /// What it says of itself if it has no disk on purpose.
    pub definition: Option<Definition>,
}

/// What one run stored for one disk.
#[derive(Debug)]
pub enum PointDisk {
    /// A sparse stream.
    Stream(Box<StreamEntry>),
    /// A plain image. In a chain it is taken with the full only, so later points have the old content.
    Raw(RawImage),
}

/// A stream file, as far as its name, its attributes and its meta text tell.
#[derive(Debug)]
pub struct StreamEntry {
    /// Where it is.
    pub path: PathBuf,
    /// Whose content.
    pub disk: DiskTarget,
    /// Which run, by its name.
    pub kind: StreamKind,
    /// Modification time: old readers order a chain by it.
    pub modified: SystemTime,
    /// Bytes of the file.
    pub file_len: u64,
    /// Its checksum file, where there is one.
    pub checksum: Option<PathBuf>,
    /// Its sidecar, where there is one. Whether it is of this stream, its head tells.
    pub sidecar: Option<PathBuf>,
    /// What it says about itself, or why that cannot be read.
    pub meta: Result<StreamMeta, StreamError>,
    /// It only keeps the place of a disk that did not exist; see [`StreamFile::is_placeholder`].
    ///
    /// [`StreamFile::is_placeholder`]: crate::stream::StreamFile::is_placeholder
    pub placeholder: bool,
    /// What its sidecar says of others, if that is of this stream.
    pub(crate) bond: Option<Bond>,
}

/// A raw disk's plain copy: no meta text, no checksum.
#[derive(Debug)]
pub struct RawImage {
    /// Where it is.
    pub path: PathBuf,
    /// Whose content.
    pub disk: DiskTarget,
    /// Modification time.
    pub modified: SystemTime,
    /// Bytes of the file and of the disk.
    pub len: u64,
    /// Its sidecar, where there is one.
    pub sidecar: Option<PathBuf>,
    /// As [`StreamEntry::bond`].
    pub(crate) bond: Option<Box<Bond>>,
}

/// What makes up a disk at a point.
#[derive(Debug)]
pub enum DiskContent<'a> {
    /// Streams to apply, oldest first.
    Streams(Vec<&'a StreamEntry>),
    /// A plain image, taken at that point (which may be an earlier one).
    Raw {
        /// The image.
        image: &'a RawImage,
        /// When it was taken.
        taken: PointId,
    },
}

impl StreamEntry {
    /// The sidecar, if there is one that is of this file and as it was written: all of it is read. Where the checksum
    /// file says another sum than the sidecar, the stream decides, and is read too.
    ///
    /// # Errors
    /// [`SidecarProblem`] for one that proves nothing.
    pub fn whole_sidecar(&self) -> Option<Result<Sidecar, SidecarProblem>> {
        let sidecar = match whole(open_sidecar(self.sidecar.as_deref()?, &self.path, self.file_len, None)?) {
            Ok(sidecar) if self.is_replaced(&sidecar) => Err(SidecarProblem::Stale),
            other => other,
        };
        Some(sidecar)
    }

    /// A sidecar that is whole, and of another stream of this name: somebody replaced that one.
    pub(crate) fn left_sidecar(&self) -> Option<Sidecar> {
        let sidecar = Sidecar::open(self.sidecar.as_deref()?).ok()?;
        let name = self.path.file_name()?.to_str()?;
        let of_place = sidecar.head().stream.name == name && sidecar.head().target == self.disk.as_str();
        (of_place && sidecar.check().is_ok()).then_some(sidecar)
    }

    /// As [`StreamEntry::whole_sidecar`]; one that proves nothing is noted.
    pub(crate) fn usable_sidecar(&self, unused: &mut Vec<UnusedSidecar>) -> Option<Sidecar> {
        UnusedSidecar::sift(self.sidecar.as_deref()?, self.whole_sidecar()?, unused)
    }

    /// True when checksum file and stream agree with each other, not with the sidecar: it is of another stream.
    fn is_replaced(&self, sidecar: &Sidecar) -> bool {
        let recorded = self.recorded().filter(|sum| sidecar.head().stream.adler32 != Some(*sum));
        // One that cannot be read is no reason to believe its checksum file.
        recorded.is_some_and(|recorded| checksum::of_file(&self.path).is_ok_and(|sum| sum == recorded))
    }

    fn recorded(&self) -> Option<u32> {
        checksum::read_file(self.checksum.as_deref()?).ok().flatten()
    }

    /// As [`PointDisk::open_sidecar`].
    pub fn open_sidecar(&self) -> Option<Result<Sidecar, SidecarProblem>> {
        open_sidecar(self.sidecar.as_deref()?, &self.path, self.file_len, self.recorded())
    }

    /// Where its sidecar is. `None` without a checksum file, which tells the stream from another of its name and size.
    pub fn bound_sidecar(&self) -> Option<BoundSidecar> {
        let (path, checksum) = (self.sidecar.clone()?, self.checksum.clone()?);
        Some(BoundSidecar { path, checksum, stream: self.path.clone(), stream_len: self.file_len })
    }

    /// True for a stream that only keeps the place of a disk that did not exist.
    pub fn is_placeholder(&self) -> bool {
        self.placeholder
    }
}

/// A sidecar, with what tells that it is of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSidecar {
    path: PathBuf,
    checksum: PathBuf,
    stream: PathBuf,
    stream_len: u64,
}

impl BoundSidecar {
    /// Opens it, if name, size and sum of the stream are those that it names. Reads its head only.
    pub fn open(&self) -> Option<Sidecar> {
        let recorded = checksum::read_file(&self.checksum).ok().flatten()?;
        let opened = open_sidecar(&self.path, &self.stream, self.stream_len, Some(recorded))?;
        opened.ok().filter(|sidecar| sidecar.head().stream.adler32 == Some(recorded))
    }
}

fn open_sidecar(
    sidecar: &Path,
    file: &Path,
    file_len: u64,
    recorded: Option<u32>,
) -> Option<Result<Sidecar, SidecarProblem>> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Some(match Sidecar::open(sidecar) {
        Err(error) => Err(SidecarProblem::Unusable(error)),
        Ok(sidecar) if sidecar.head().fits(name, file_len, recorded) => Ok(sidecar),
        Ok(sidecar) => match &sidecar.head().stream {
            raw if sidecar.head().is_of_raw_image() && raw.name == name => {
                Err(SidecarProblem::OtherLength { listed: raw.size, found: file_len })
            }
            _ => Err(SidecarProblem::Stale),
        },
    })
}

/// A sidecar of which every byte was read and is as it was written.
fn whole(opened: Result<Sidecar, SidecarProblem>) -> Result<Sidecar, SidecarProblem> {
    let sidecar = opened?;
    sidecar.check().map_err(SidecarProblem::Unusable)?;
    Ok(sidecar)
}

/// Why a sidecar is not used.
#[derive(Debug, thiserror::Error)]
pub enum SidecarProblem {
    /// It is about another file: the stream was replaced, or the sidecar left behind.
    #[error(
        "The sidecar is not of the file beside it, which was replaced, or an old program moved the one it is of"
    )]
    Stale,
    /// It is of the raw image beside it, which is longer or shorter than it was: nothing is wrong with the sidecar.
    #[error(
        "The raw image has {found} bytes, its sidecar says that {listed} were backed up: it was cut, or changed"
    )]
    OtherLength {
        /// Bytes that the image had.
        listed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It cannot be read or used.
    #[error(transparent)]
    Unusable(SidecarError),
}

/// A sidecar that proves nothing of the file beside it: the restore goes on without it, and somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not used: {reason}", path.display())]
pub struct UnusedSidecar {
    /// The sidecar.
    pub path: PathBuf,
    /// Why, with causes.
    pub reason: String,
}

impl UnusedSidecar {
    fn sift(path: &Path, whole: Result<Sidecar, SidecarProblem>, unused: &mut Vec<Self>) -> Option<Sidecar> {
        whole.map_err(|problem| unused.push(Self::new(path, &problem))).ok()
    }

    pub(crate) fn new(path: &Path, problem: &dyn std::error::Error) -> Self {
        Self { path: path.to_owned(), reason: with_causes(problem) }
    }
}

impl RawImage {
    /// As [`PointDisk::open_sidecar`].
    pub fn open_sidecar(&self) -> Option<Result<Sidecar, SidecarProblem>> {
        open_sidecar(self.sidecar.as_deref()?, &self.path, self.len, None)
    }

    /// The problem of an image that is longer or shorter than its sidecar says.
    pub fn other_length(&self) -> Option<SidecarProblem> {
        let problem = self.open_sidecar()?.err()?;
        matches!(problem, SidecarProblem::OtherLength { .. }).then_some(problem)
    }

    /// As [`StreamEntry::whole_sidecar`].
    pub fn whole_sidecar(&self) -> Option<Result<Sidecar, SidecarProblem>> {
        Some(whole(self.open_sidecar()?))
    }

    /// As [`StreamEntry::usable_sidecar`].
    pub(crate) fn usable_sidecar(&self, unused: &mut Vec<UnusedSidecar>) -> Option<Sidecar> {
        UnusedSidecar::sift(self.sidecar.as_deref()?, self.whole_sidecar()?, unused)
    }
}

impl DiskContent<'_> {
    /// The sidecar of the newest file, where there is one.
    pub(crate) fn newest_sidecar(&self) -> Option<&Path> {
        match self {
            Self::Streams(entries) => entries.last()?.sidecar.as_deref(),
            Self::Raw { image, .. } => image.sidecar.as_deref(),
        }
    }

    /// What the sidecars say the disk holds, and which of them say nothing: such count as none.
    pub fn tables(&self) -> (Tables, Vec<UnusedSidecar>) {
        let mut unused = Vec::new();
        let sidecars = match self {
            Self::Streams(entries) => entries.iter().map(|entry| entry.usable_sidecar(&mut unused)).collect(),
            Self::Raw { image, .. } => vec![image.usable_sidecar(&mut unused)],
        };
        (Tables::new(sidecars), unused)
    }
}

impl PointDisk {
    /// Opens the sidecar, if there is one, and holds it against name, size and checksum file. Reads its head only.
    pub fn open_sidecar(&self) -> Option<Result<Sidecar, SidecarProblem>> {
        match self {
            Self::Stream(entry) => entry.open_sidecar(),
            Self::Raw(image) => image.open_sidecar(),
        }
    }

    /// As [`StreamEntry::whole_sidecar`].
    pub(crate) fn whole_sidecar(&self) -> Option<Result<Sidecar, SidecarProblem>> {
        match self {
            Self::Stream(entry) => entry.whole_sidecar(),
            Self::Raw(image) => image.whole_sidecar(),
        }
    }

    /// As [`StreamEntry::bond`].
    pub(crate) fn bond(&self) -> Option<&Bond> {
        match self {
            Self::Stream(entry) => entry.bond.as_ref(),
            Self::Raw(image) => image.bond.as_deref(),
        }
    }

    /// Where its bytes are.
    pub fn path(&self) -> &Path {
        match self {
            Self::Stream(entry) => &entry.path,
            Self::Raw(image) => &image.path,
        }
    }

    /// Its sidecar, where there is one.
    pub fn sidecar(&self) -> Option<&Path> {
        match self {
            Self::Stream(entry) => entry.sidecar.as_deref(),
            Self::Raw(image) => image.sidecar.as_deref(),
        }
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        match self {
            Self::Stream(entry) => entry.file_len,
            Self::Raw(image) => image.len,
        }
    }

    /// Modification time of the file.
    pub fn modified(&self) -> SystemTime {
        match self {
            Self::Stream(entry) => entry.modified,
            Self::Raw(image) => image.modified,
        }
    }
}
