//! Sparse stream: a disk image as frames of data and zero extents.
//!
//! Lives here: frame headers, meta JSON, the compression trailer, LZ4 pieces, checksums, reading one stream.
//! Must not live here: file names (`chain`), which extents to save (the engine), which stream wins (`restore`).

pub mod checksum;
pub mod codec;
pub mod frame;
pub mod meta;
pub mod output;
pub mod trailer;
pub mod writer;
