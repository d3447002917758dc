//! Sparse stream: a disk image as frames of data and zero extents.
//!
//! Lives here: frame headers, meta JSON, the compression trailer, LZ4 and zstd pieces, checksums, reading one stream.
//! Must not live here: file names (`chain`), which extents to save (the engine), which stream wins (`restore`).
//! The byte layout is in `format-spec/`, with vectors that the reader must pass; change both in one commit.

pub mod checksum;
pub mod codec;
mod ends;
pub mod error;
pub mod frame;
pub mod frames;
pub mod meta;
pub mod output;
mod part;
pub mod piece;
mod positioned;
pub mod reader;
pub(crate) mod running;
pub mod trailer;
pub mod writer;

pub use checksum::Adler32;
pub use codec::{Compression, MAX_PIECE_LEN};
pub use error::{Damage, Problem, StreamError, TrailerMismatch};
pub use frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
pub use frames::Frames;
pub use meta::StreamMeta;
pub(crate) use part::{UNIT_LEN, Units};
pub use piece::{Coding, Frame, Piece, Stored};
pub use reader::StreamFile;
pub use trailer::TrailerEntry;
