//! Why a disk was not put together, or got no image.

use super::claim::Claim;
use super::map::MapError;
use super::partial::NewFileError;
use super::qcow2::MAX_DISK;
use crate::chain::{BackupSet, DiskContent, SetError, SetProblem, SidecarProblem};
use crate::disk::DiskError;
use crate::sidecar::Checked;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The set does not have that disk at that point.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A stream is damaged.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A part of the disk cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is larger than anybody can believe.
    #[error(transparent)]
    Claim(#[from] Claim),
    /// A raw image could not be read.
    #[error("Cannot read the raw image {}", path.display())]
    ReadRaw {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The image file could not be begun, or got no name.
    #[error(transparent)]
    NewFile(#[from] NewFileError),
    /// The target is a block device, and nobody said that its content may go.
    #[error("{} is a block device: give --force to overwrite its content", path.display())]
    DeviceInTheWay {
        /// The device.
        path: PathBuf,
    },
    /// It would take an image away from somebody.
    #[error("{} is in use by {by}: stop that first, or choose another name. Nothing was replaced", path.display())]
    InUse {
        /// The target.
        path: PathBuf,
        /// Who has it.
        by: String,
    },
    /// A target that somebody may have open, and this user cannot see it.
    #[error("Nobody but root can tell whether {} is in use: {why}. Run as root: nothing was written", path.display())]
    UsersHidden {
        /// The target.
        path: PathBuf,
        /// Why the user does not see it.
        why: String,
    },
    /// A qcow2 image on a block device is not what anybody means.
    #[error("{} is a block device: it takes the raw format only", path.display())]
    DeviceFormat {
        /// The device.
        path: PathBuf,
    },
    /// The disk does not fit.
    #[error("{} has {room} bytes, the disk has {size}", path.display())]
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// Its bytes.
        room: u64,
        /// Those of the disk.
        size: u64,
    },
    /// QEMU opens no qcow2 image of such a size.
    #[error(
        "{} cannot be a qcow2 image: the disk has {size} bytes, and such an image at most {}: use the raw format", path.display(), MAX_DISK
    )]
    Qcow2TooLarge {
        /// The target.
        path: PathBuf,
        /// Bytes of the disk.
        size: u64,
    },
    /// All streams could be read, and give something else than was backed up.
    #[error(
        "The restored disk is not what was backed up: at disk bytes {}..{} the checksum in its sidecar differs. vmstream verify --deep says more",
        wrong.start, wrong.end
    )]
    Wrong {
        /// The first range that differs.
        wrong: Range<u64>,
    },
    /// A raw image that is longer or shorter than it was.
    #[error(
        "{}: {problem}", path.display()
    )]
    RawLength {
        /// The image.
        path: PathBuf,
        /// What its sidecar says.
        problem: SidecarProblem,
    },
    /// A stream that it needs is of something else.
    #[error("{problem}. vmstream verify says more")]
    Misplaced {
        /// What the stream says and what its place needs.
        problem: String,
    },
    /// Nobody can tell whether a stream that it needs is of something else.
    #[error("{problem}. vmstream verify says more")]
    Doubtful {
        /// What contradicts each other.
        problem: String,
    },
    /// A stream that only its checksum could prove is another than was written.
    #[error(
        "The checksum of {} is {found}, {by} says {recorded}: the stream or {by} has changed since the backup",
        path.display()
    )]
    Checksum {
        /// The stream.
        path: PathBuf,
        /// Who says what it must be.
        by: SumOf,
        /// That.
        recorded: u32,
        /// The sum over its bytes.
        found: u32,
    },
    /// The checksum file that alone could prove a stream cannot be used.
    #[error(
        "{} proves nothing: {reason}. Nothing else tells whether {} is as it was written",
        checksum.display(), path.display()
    )]
    NoChecksum {
        /// The stream.
        path: PathBuf,
        /// Its checksum file.
        checksum: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The reader of a pipe, or the file behind it, took no more.
    #[error("Cannot write to the output")]
    Pipe {
        /// What the system said.
        source: std::io::Error,
    },
    /// A block device that was written to before the error. Nothing can bring its old content back.
    #[error("{} was overwritten, in part at least, and holds no good disk: mend the cause and run this again", path.display())]
    Overwritten {
        /// The device.
        path: PathBuf,
        /// What went wrong.
        source: Box<ExtractError>,
    },
    /// The target could not be written.
    #[error("Cannot write {}", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ExtractError {
    /// True when only the check stands in the way: without it, there is an image.
    pub fn is_of_check(&self) -> bool {
        match self {
            Self::Overwritten { source, .. } => source.is_of_check(),
            Self::Wrong { .. }
            | Self::RawLength { .. }
            | Self::Misplaced { .. }
            | Self::Doubtful { .. }
            | Self::Checksum { .. }
            | Self::NoChecksum { .. } => true,
            _ => false,
        }
    }

    /// The error about content that is wrong somewhere.
    pub(super) fn check(checked: &Checked) -> Result<(), Self> {
        checked.wrong.first().map_or(Ok(()), |wrong| Err(Self::Wrong { wrong: wrong.clone() }))
    }

    /// The error about a stream that is of another disk, point or backup than its name and place say, or that may be.
    pub(crate) fn check_place(set: &BackupSet, content: &DiskContent<'_>) -> Result<(), Self> {
        let paths: Vec<&Path> = match content {
            DiskContent::Streams(entries) => entries.iter().map(|entry| entry.path.as_path()).collect(),
            DiskContent::Raw { image, .. } => vec![&image.path],
        };
        if let Some(problem) = paths.iter().find_map(|path| set.misplaced(path)) {
            return Err(Self::Misplaced { problem: problem.to_string() });
        }
        let problem = paths.iter().find_map(|path| set.doubtful(path)).map(SetProblem::to_string);
        problem.map_or(Ok(()), |problem| Err(Self::Doubtful { problem }))
    }

    /// The error about a raw image whose length is not that of the disk.
    pub(crate) fn check_length(content: &DiskContent<'_>) -> Result<(), Self> {
        let DiskContent::Raw { image, .. } = content else { return Ok(()) };
        let wrong = |problem| Self::RawLength { path: image.path.clone(), problem };
        image.other_length().map_or(Ok(()), |problem| Err(wrong(problem)))
    }
}

/// Who says what the checksum of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumOf {
    /// Its checksum file.
    ChecksumFile,
    /// Its sidecar.
    Sidecar,
}

impl std::fmt::Display for SumOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ChecksumFile => "its checksum file",
            Self::Sidecar => "its sidecar",
        })
    }
}
