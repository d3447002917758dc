//! What goes wrong when a stream is read: the file is damaged, or it could not be read at all.

use super::codec::CodecError;
use super::frame::{FrameHeaderError, FrameKind};
use super::meta::MetaError;
use super::trailer::TrailerError;
use std::fmt;
use std::ops::Range;

/// A stream could not be used as its writer meant it.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file system failed. Says nothing about the content.
    #[error("Cannot read {len} bytes at file offset {at}")]
    Read {
        /// Offset in the file.
        at: u64,
        /// Bytes wanted.
        len: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not what a writer leaves behind.
    #[error(transparent)]
    Damaged(Box<Damage>),
}

/// One place where a stream is not as its writer left it.
#[derive(Debug)]
pub struct Damage {
    /// Number of the frame in the file, counted from 0 after the meta frame; `None` outside frames.
    pub frame: Option<u64>,
    /// Offset in the file.
    pub at: u64,
    /// The range of the disk whose content is lost by it, where that is known.
    pub disk: Option<Range<u64>>,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(frame) = self.frame {
            write!(f, "Frame {frame} at file offset {}", self.at)?;
        } else {
            write!(f, "File offset {}", self.at)?;
        }
        if let Some(disk) = &self.disk {
            write!(f, ", disk range {}..{}", disk.start, disk.end)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for Damage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// What is wrong at one place of a stream.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file is shorter than something in it says.
    #[error("the file is cut off: {want} bytes belong here, {have} are left")]
    CutOff {
        /// Bytes needed.
        want: u64,
        /// Bytes up to where they must end.
        have: u64,
    },
    /// The first frame is not `meta`.
    #[error("this is not a sparse stream")]
    NotAStream {
        /// What the first bytes are instead.
        source: Option<FrameHeaderError>,
    },
    /// A meta text longer than any writer makes.
    #[error("the meta text claims {len} bytes")]
    MetaTooLong {
        /// Bytes claimed.
        len: u64,
    },
    /// The meta text cannot be used.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The header of a frame cannot be read.
    #[error(transparent)]
    Header(#[from] FrameHeaderError),
    /// A frame of this kind may not stand here.
    #[error("a {kind:?} frame may not stand here")]
    Misplaced {
        /// Its kind.
        kind: FrameKind,
    },
    /// `stop` or `comp` with numbers where zeros belong.
    #[error("the {kind:?} frame carries {start} and {len} where zeros belong")]
    NotZero {
        /// Its kind.
        kind: FrameKind,
        /// START found.
        start: u64,
        /// LENGTH found.
        len: u64,
    },
    /// A line end is missing after a payload or a text.
    #[error("no line end where {after} must end")]
    NoLineEnd {
        /// What it should close.
        after: &'static str,
    },
    /// Content that was not written so: its sidecar has another checksum.
    #[error("the block is not as it was written: its checksum in the sidecar differs")]
    OtherContent,
    /// A meta text that was not written so: its sidecar says otherwise.
    #[error(
        "the meta text is not as it was written: the sidecar tells of another disk size, or another parent"
    )]
    OtherMeta,
    /// A frame of no bytes.
    #[error("the frame is empty")]
    Empty,
    /// A frame that covers bytes an earlier one covered, or goes back.
    #[error("the frame starts at disk offset {start}, before the end of the one before it ({end})")]
    OutOfOrder {
        /// Its start.
        start: u64,
        /// End of its predecessor.
        end: u64,
    },
    /// A frame past the end of the disk.
    #[error("the frame of {len} bytes passes the end of the disk of {virtual_size} bytes")]
    PastDisk {
        /// Its length.
        len: u64,
        /// Size of the disk.
        virtual_size: u64,
    },
    /// The trailer cannot be read.
    #[error(transparent)]
    Trailer(#[from] TrailerError),
    /// The trailer and the frames do not fit together.
    #[error("{0}")]
    TrailerMismatch(TrailerMismatch),
    /// The lengths of all data frames do not sum to what the meta text says.
    #[error("the data frames hold {found} bytes, the meta text says {want}")]
    DataSize {
        /// Sum of the frames.
        found: u64,
        /// `dataSize`.
        want: u64,
    },
    /// Something follows the end of the stream.
    #[error("{extra} bytes follow the end of the stream")]
    BytesAfterEnd {
        /// How many.
        extra: u64,
    },
    /// The lengths that meta text and trailer name cannot fill the file.
    #[error("the {room} bytes between the meta text and the stop frame are not what its frames need")]
    Lengths {
        /// Bytes there.
        room: u64,
    },
    /// A payload does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// How trailer and frames contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailerMismatch {
    /// The meta text says compressed, but no trailer ends the file.
    #[error("the stream is compressed, but its file does not end with a trailer")]
    Missing,
    /// Fewer entries than data frames.
    #[error("the trailer has no entry for this frame")]
    TooFew,
    /// More entries than data frames.
    #[error("the trailer has more entries than there are data frames")]
    TooMany,
    /// The form of an entry does not follow from its frame's length.
    #[error("the trailer entry does not have the form that a frame of this length needs")]
    Form,
    /// No compressed frame of so many bytes can hold the frame's content.
    #[error("the trailer gives {stored_len} stored bytes for {plain_len}, which no compression yields")]
    StoredLen {
        /// The entry.
        stored_len: u64,
        /// Content bytes.
        plain_len: u64,
    },
}

impl StreamError {
    pub(crate) fn damaged(
        frame: Option<u64>,
        at: u64,
        disk: Option<Range<u64>>,
        problem: impl Into<Problem>,
    ) -> Self {
        Self::Damaged(Box::new(Damage { frame, at, disk, problem: problem.into() }))
    }
}
