//! Why a set was not converted.

use crate::chain::{PointId, SetError, SidecarProblem};
use crate::new_point::PointError;
use crate::restore::MapError;
use crate::restore::claim::Claim;
use crate::sidecar::SidecarError;
use crate::stream::StreamError;
use crate::stream::codec::CodecError;
use std::ops::Range;
use std::path::PathBuf;

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The set does not have what is needed.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The set itself is damaged: files are missing or contradict each other.
    #[error("The backup set is damaged, so it is not converted: {}; vmstream verify says what is still good", problems.join("; "))]
    DamagedSet {
        /// What is wrong, in words.
        problems: Vec<String>,
    },
    /// Files of the set contradict each other, and nothing tells which of them belong there.
    #[error("Nobody can tell whether the backup set is what was backed up, so it is not converted: {}; vmstream verify says more", problems.join("; "))]
    Doubtful {
        /// What contradicts each other, in words.
        problems: Vec<String>,
    },
    /// There is no restore point.
    #[error("{} holds no restore point", dir.display())]
    NoPoints {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no stream to write again.
    #[error("{} holds the definition of a VM only, no disk: there is nothing to convert; copy the folder", dir.display())]
    DefinitionOnly {
        /// The folder.
        dir: PathBuf,
    },
    /// There is nothing to put together.
    #[error("{point} stands alone: convert it without squashing")]
    NotAChain {
        /// The point.
        point: PointId,
    },
    /// A stream is damaged, or cannot be read.
    #[error(transparent)]
    Stream(#[from] MapError),
    /// A stream is not what was written when the backup was made.
    #[error(
        "The checksum of {} is {found}, its checksum file says {recorded}: the file or its checksum has changed since the backup",
        path.display()
    )]
    Checksum {
        /// The stream.
        path: PathBuf,
        /// What its checksum file says.
        recorded: u32,
        /// The sum over its bytes.
        found: u32,
    },
    /// Streams that are whole, and do not belong together.
    #[error(
        "Disk bytes {}..{} are not what the disk had when {} was written: the checksums in the sidecars differ",
        range.start, range.end, path.display()
    )]
    OtherContent {
        /// The newest stream.
        path: PathBuf,
        /// The first range of the disk that differs.
        range: Range<u64>,
    },
    /// A raw image is not what was written when the backup was made.
    #[error(
        "{}, bytes {}..{}, is not what was backed up: the checksums in its sidecar differ",
        path.display(), range.start, range.end
    )]
    RawContent {
        /// The image.
        path: PathBuf,
        /// The first range that differs.
        range: Range<u64>,
    },
    /// A raw image is not as long as it was.
    #[error("{}: {problem}", path.display())]
    RawLength {
        /// The image.
        path: PathBuf,
        /// What its sidecar says.
        problem: SidecarProblem,
    },
    /// The disk is larger than anybody can believe.
    #[error(transparent)]
    Claim(#[from] Claim),
    /// A sidecar that could be read before cannot be read any more.
    #[error("Cannot read the sidecar of {}, or of a stream before it", stream.display())]
    Sidecar {
        /// The stream.
        stream: PathBuf,
        /// Why.
        source: SidecarError,
    },
    /// A checksum file that cannot be used.
    #[error("Cannot use {}: {message}", path.display())]
    ChecksumFile {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The new folder is there already.
    #[error("{} exists already: choose another name", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another conversion runs, or was killed.
    #[error("{} is left of a conversion that was stopped, or one is running: remove it if none is", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the set could not be read.
    #[error("Cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the new set could not be written.
    #[error("Cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The new set is there, whole, and only its name is not certain to stay when the host fails.
    #[error(
        "{} is complete, but may be gone if the host fails now: the folder that it is in could not be synced. Sync that file \
         system (sync -f '{}'), or remove the new folder and convert once more", path.display(), path.display()
    )]
    NotDurable {
        /// The new folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content could not be compressed.
    #[error(transparent)]
    Compress(#[from] CodecError),
}

impl ConvertError {
    /// True when the backup set is damaged: a wish that cannot be met, and a failing system, are something else.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Set(SetError::Lost { .. }) | Self::DamagedSet { .. } | Self::Checksum { .. } => true,
            Self::ChecksumFile { .. } | Self::OtherContent { .. } => true,
            Self::RawContent { .. } | Self::RawLength { .. } => true,
            Self::Stream(MapError { source, .. }) => matches!(source, StreamError::Damaged(_)),
            _ => false,
        }
    }
}

impl From<PointError> for ConvertError {
    fn from(PointError { path, source, .. }: PointError) -> Self {
        Self::Write { path, source }
    }
}
