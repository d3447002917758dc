//! A backup set written again in a new folder: in another compression, or a chain put together as one new full.
//!
//! Lives here: what the new set is made of (`plan`, `tpm`), streams read, proven and written again (`recompress`, `squash`), and
//! the folder that appears at once (`new_set`), filled point by point (`point`).
//! Must not live here: which stream supplies which byte (`restore`), frames (`stream`), printing.

mod encode;
mod error;
mod new_set;
mod plan;
mod point;
mod recompress;
mod source;
mod squash;
mod tpm;

pub use encode::Compression;
pub use error::ConvertError;

use crate::chain::{BackupSet, DiskTarget, PointId, UnusedSidecar};
use crate::doctor;
use crate::stream::writer::MAX_FRAME_LEN;
use crate::verify::Watch;
use new_set::NewSet;
use plan::Plan;
use point::Points;
use std::num::NonZeroUsize;
use std::path::Path;

/// How to write a set again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// How the new streams are stored.
    pub compression: Compression,
    /// Bytes of the disk in one data frame, at most. More than [`MAX_FRAME_LEN`] count as that, without compression more
    /// than 4 MiB as 4 MiB, so that a frame is one block of its sidecar.
    pub frame_len: u64,
    /// Make no full of streams that do not belong together, or that give another disk than was backed up. Of a set whose points
    /// stay nothing is made then in any case.
    pub check: bool,
    /// Threads. Each needs up to 64 MiB, for [`Shape::Full`] 160 MiB.
    pub workers: NonZeroUsize,
}

/// Content bytes of a data frame where nobody asks for another length: as the backup engine has it.
pub const FRAME_LEN: u64 = 2 << 20;

/// Content bytes of an uncompressed block, at most: part of the format of sidecars.
const PLAIN_BLOCK_LEN: u64 = 4 << 20;

/// What becomes of a set's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All of them stay.
    SamePoints,
    /// One new full, with the disks as they were at this point.
    Full(PointId),
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// The points of the new set, oldest first.
    pub points: Vec<PointId>,
    /// Its streams.
    pub streams: Vec<ConvertedStream>,
    /// Raw images that were copied as they are.
    pub raw_images: Vec<RawCopy>,
    /// Sidecars of the old set that prove nothing: the new ones know less.
    pub unused_sidecars: Vec<UnusedSidecar>,
    /// The point was put together from increments that may have lost changes when virtnbdbackup wrote them. The new
    /// full has the same content, and nothing in it tells.
    pub suspect: bool,
}

/// One stream that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertedStream {
    /// Its file name.
    pub file: String,
    /// Whose content.
    pub disk: DiskTarget,
    /// Bytes of the streams it was made of.
    pub source_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Bytes of its data frames.
    pub data_bytes: u64,
    /// Streams it was made of whose content nothing proves: no checksum file, and no sidecar.
    pub unproven: Vec<String>,
}

/// One raw image that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCopy {
    /// Its file name.
    pub file: String,
    /// Whose content.
    pub disk: DiskTarget,
    /// When it was taken: with the full, whatever point was asked for.
    pub taken: PointId,
    /// Its sidecar says that it is what was backed up. Without one nothing does.
    pub proven: bool,
}

/// Writes `set` again as a new folder `target`, which must not exist.
///
/// Every byte of each stream that is needed is read once and proven as it is read: by its checksum file, the checksums
/// of its pieces, and what sidecars say of the disk. The set is not touched. The new folder appears, complete and
/// durable, at the end; until then all of it waits under unfinished names in `TARGET.partial`.
///
/// # Errors
/// [`ConvertError`]; nothing is left of the new folder then. After a kill `TARGET.partial` may be left.
pub fn convert(
    set: &BackupSet,
    shape: Shape,
    target: &Path,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<Converted, ConvertError> {
    let longest = match options.compression {
        Compression::None => PLAIN_BLOCK_LEN,
        Compression::Lz4(_) | Compression::Zstd(_) => MAX_FRAME_LEN,
    };
    let options = ConvertOptions { frame_len: options.frame_len.clamp(1, longest), ..options };
    let plan = Plan::of(set, shape, options.check)?;
    plan.check_files(set)?;
    let suspect = match shape {
        Shape::SamePoints => false,
        Shape::Full(point) => !doctor::diagnose(set).sound_points.contains(&point),
    };
    let mut points = Points::new(NewSet::create(target, &set.dir)?, options, watch);
    let mut converted = Converted { suspect, ..Converted::default() };
    for point in &plan.points {
        let list = plan.list.as_ref().map(|name| (name.as_str(), plan.list_at(point.id)));
        points.write(point, list, &mut converted)?;
    }
    points.publish(&plan)?;
    Ok(converted)
}

/// Bytes that a conversion will read.
///
/// # Errors
/// As [`convert`], where the set cannot be converted.
pub fn total_bytes(set: &BackupSet, shape: Shape, check: bool) -> Result<u64, ConvertError> {
    Ok(Plan::of(set, shape, check)?.total_bytes())
}
