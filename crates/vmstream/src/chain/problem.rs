//! What a look at a folder finds wrong, before any payload is read.

use super::cpt::CptError;
use super::ident::{CheckpointName, DiskTarget, PointId};
use std::path::{Path, PathBuf};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something that was there, or had to be, is gone or contradicts itself.
    Damage,
    /// Nothing tells whether what is there is what was backed up: no damage is known, and nothing is known to be good.
    Doubt,
    /// All restore points are there; somebody should look.
    Warning,
}

/// Something in a folder that a complete and quiet backup set does not have.
#[derive(Debug, thiserror::Error)]
pub enum SetProblem {
    /// Streams of a chain without their list.
    #[error(
        "There is no checkpoint list (.cpt): points are taken from the streams' names; the next backup will refuse"
    )]
    ListMissing,
    /// More than one list.
    #[error("There are {} checkpoint lists; {} is used", paths.len(), paths[0].display())]
    ManyLists {
        /// All of them, never empty.
        paths: Vec<PathBuf>,
    },
    /// A list that cannot be read.
    #[error("{}: {source}; points are taken from the streams' names", path.display())]
    ListDamaged {
        /// The list.
        path: PathBuf,
        /// Why.
        source: CptError,
    },
    /// A list that names fewer points than there must have been.
    #[error(
        "{}: streams of {newest} are here, and the list ends before {}: a run that breaks off leaves one point at most, so \
         names are missing; points are taken from the streams' names",
        path.display(),
        ended.map_or("the first point".to_owned(), |last| format!("the point after {last}"))
    )]
    ListShort {
        /// The list.
        path: PathBuf,
        /// Its last name.
        ended: Option<CheckpointName>,
        /// The newest stream's.
        newest: CheckpointName,
    },
    /// Numbers are missing in the list.
    #[error("The chain has {found} where {want} belongs")]
    Gap {
        /// What comes next in the list.
        found: CheckpointName,
        /// What should.
        want: CheckpointName,
    },
    /// A stream that must exist does not.
    #[error("Disk {disk} has no stream at {point}")]
    StreamMissing {
        /// The disk.
        disk: DiskTarget,
        /// The point.
        point: PointId,
    },
    /// A point of the list of which no file is left.
    #[error("Nothing is left of {point}")]
    PointEmpty {
        /// The point.
        point: PointId,
    },
    /// A finished stream whose point was never committed.
    #[error("{} belongs to no point of the checkpoint list: left over from a run that did not finish; old restore programs would apply it, the next backup should remove it", path.display())]
    Leftover {
        /// The stream.
        path: PathBuf,
    },
    /// A `.zstd` stream beside a `.data` stream of the same disk and run.
    #[error("{} is not used: its disk has a .data stream of the same run; one of the two does not belong here", path.display())]
    SecondStream {
        /// The stream that is not used.
        path: PathBuf,
    },
    /// Old readers see a part of the streams.
    #[error(
        "The set has .data and .zstd streams: old restore programs see the .data streams alone and would put wrong \
         images together; restore with vmstream"
    )]
    MixedSuffixes,
    /// A stream that was never finished.
    #[error("{} was never finished: a backup is running, or one broke off", path.display())]
    Partial {
        /// The file.
        path: PathBuf,
    },
    /// A stream whose meta text is about something else than its name.
    #[error("{}: the stream says {field} {found:?}, its place needs {want:?}", path.display())]
    MetaMismatch {
        /// The stream.
        path: PathBuf,
        /// Which field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What its place needs.
        want: String,
    },
    /// A stream or image that is whole, and of another backup.
    #[error(
        "{} is of another backup: {why}; somebody put it there, with its sidecar, in the place of the right one",
        path.display()
    )]
    Exchanged {
        /// The stream or image.
        path: PathBuf,
        /// How that is known.
        why: &'static str,
    },
    /// A stream or image of which nobody can tell whether it, or what contradicts it, is of another backup.
    #[error(
        "{}: its sidecar and that of another stream contradict each other; nothing tells which of the two belongs here",
        path.display()
    )]
    Doubtful {
        /// The stream or image.
        path: PathBuf,
    },
    /// A stream that goes on from another backup than the one before it, and nothing tells which of the two belongs here.
    #[error(
        "{} goes on from another backup than {}: nothing tells which of the two belongs here, and no point from here on is \
         what was backed up",
        path.display(), before.display()
    )]
    Unjoined {
        /// The later one.
        path: PathBuf,
        /// The one before it.
        before: PathBuf,
    },
    /// A disk that the definition names, and of which there is nothing.
    #[error(
        "Disk {disk} is in the domain's definition at {point}, and the backup has nothing of it: it was left out when the \
         backup was made, or its files are gone"
    )]
    NotBackedUp {
        /// The disk.
        disk: DiskTarget,
        /// The first such point.
        point: PointId,
    },
    /// A point that another program has begun.
    #[error("{point} is unfinished, and no restore point yet: a backup is running, or one broke off")]
    Unfinished {
        /// The point.
        point: PointId,
    },
    /// A point without a domain XML.
    #[error("{point} has no vmconfig: its disks can be restored, the domain's definition not")]
    ConfigMissing {
        /// The point.
        point: PointId,
    },
    /// A raw image of which only the sidecar is left.
    #[error("{} is gone: its sidecar is there, the raw image of disk {disk} is not", path.display())]
    ImageMissing {
        /// Where the image was.
        path: PathBuf,
        /// The disk.
        disk: DiskTarget,
    },
    /// A stream or image without a sidecar among others that have one.
    #[error("{} has no sidecar, as what belongs with it has: nothing proves what the disk held", path.display())]
    NoSidecar {
        /// The stream or image.
        path: PathBuf,
    },
    /// A sidecar whose stream is not there.
    #[error("{} has no stream beside it: a run was killed, or an old program moved the stream and left this behind", path.display())]
    LoneSidecar {
        /// The sidecar.
        path: PathBuf,
    },
    /// Modification times that old readers would misread.
    #[error("{} is not newer by a whole second than {}: old restore programs, which sort by time, may apply them in the wrong order", later.display(), earlier.display())]
    TimeOrder {
        /// The stream that comes first.
        earlier: PathBuf,
        /// The one that must be newer.
        later: PathBuf,
    },
}

impl SetProblem {
    /// The stream or image that is not what belongs in its place, or may not be, though it may be whole.
    pub(crate) fn blamed(&self) -> Option<&Path> {
        match self {
            Self::MetaMismatch { path, .. }
            | Self::Exchanged { path, .. }
            | Self::Unjoined { path, .. }
            | Self::Doubtful { path } => Some(path),
            _ => None,
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Doubtful { .. } => Severity::Doubt,
            Self::ManyLists { .. }
            | Self::MixedSuffixes
            | Self::Leftover { .. }
            | Self::Partial { .. }
            | Self::LoneSidecar { .. }
            | Self::NotBackedUp { .. }
            | Self::Unfinished { .. }
            | Self::NoSidecar { .. }
            | Self::TimeOrder { .. } => Severity::Warning,
            _ => Severity::Damage,
        }
    }
}
