//! A backup set written again in a new folder: in another compression, or a chain put together as one new full.
//!
//! Lives here: what the new set is made of (`plan`), streams read, proven and written again (`recompress`, `squash`), and
//! the folder that appears at once (`new_set`).
//! Must not live here: which stream supplies which byte (`restore`), frames (`stream`), printing.

mod encode;
mod error;
mod new_set;
mod plan;
mod recompress;
mod source;
mod squash;

pub use encode::Compression;
pub use error::ConvertError;

use crate::chain::{BackupSet, DiskTarget, PointId};
use crate::doctor;
use crate::stream::writer::{FinishedStream, MAX_FRAME_LEN};
use crate::verify::Watch;
use new_set::NewSet;
use plan::{NewFile, NewStream, Plan};
use source::Source;
use std::num::NonZeroUsize;
use std::path::Path;

/// How to write a set again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// How the new streams are stored.
    pub compression: Compression,
    /// Bytes of the disk in one data frame, at most; more than [`MAX_FRAME_LEN`] count as that.
    pub frame_len: u64,
    /// Threads. Each needs up to 64 MiB, for [`Shape::Full`] 160 MiB.
    pub workers: NonZeroUsize,
}

/// Content bytes of a data frame where nobody asks for another length: as the backup engine has it.
pub const FRAME_LEN: u64 = 2 << 20;

/// What becomes of a set's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All of them stay.
    SamePoints,
    /// One new full, with the disks as they were at this point.
    Full(PointId),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The points of the new set, oldest first.
    pub points: Vec<PointId>,
    /// Its streams.
    pub streams: Vec<ConvertedStream>,
    /// Raw images that were copied as they are.
    pub raw_images: Vec<RawCopy>,
    /// The point was put together from increments that may have lost changes when virtnbdbackup wrote them. The new
    /// full has the same content, and nothing in it tells any more.
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
    /// Streams it was made of whose content nothing proves: no checksum file, not compressed.
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
}

/// Writes `set` again as a new folder `target`, which must not exist.
///
/// Every byte of each stream that is needed is read once and proven as it is read, by its checksum file and the checksums
/// of its pieces. The set is not touched. The new folder appears, complete and durable, at the end; until then all of
/// it waits under unfinished names in `TARGET.partial`.
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
    let options = ConvertOptions { frame_len: options.frame_len.clamp(1, MAX_FRAME_LEN), ..options };
    let plan = Plan::of(set, shape)?;
    let mut new = NewSet::create(target, &set.dir)?;
    let mut streams = Vec::new();
    for stream in &plan.streams {
        streams.push(write_stream(&mut new, stream, options, watch)?);
    }
    for NewFile { name, from, time } in &plan.files {
        new.copy(name, from, *time, watch)?;
    }
    if let Some((name, content, time)) = &plan.list {
        new.write(name, content, *time)?;
    }
    new.publish()?;
    let suspect = match shape {
        Shape::SamePoints => false,
        Shape::Full(point) => !doctor::diagnose(set).sound_points.contains(&point),
    };
    Ok(Converted { points: plan.points, streams, raw_images: plan.raw_images, suspect })
}

/// Bytes that a conversion will read.
///
/// # Errors
/// As [`convert`], where the set cannot be converted.
pub fn total_bytes(set: &BackupSet, shape: Shape) -> Result<u64, ConvertError> {
    let plan = Plan::of(set, shape)?;
    let streams = plan.streams.iter().flat_map(|stream| &stream.sources).map(|entry| entry.file_len);
    let files =
        plan.files.iter().filter_map(|file| std::fs::metadata(&file.from).ok()).map(|about| about.len());
    Ok(streams.chain(files).sum())
}

/// Writes one stream and its checksum file.
fn write_stream(
    new: &mut NewSet,
    stream: &NewStream<'_>,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<ConvertedStream, ConvertError> {
    let source = Source::open(&stream.sources)?;
    let path = new.unfinished(&stream.name)?;
    let (done, sums) = match stream.shape {
        Shape::SamePoints => recompress::run(&source, &path, options, watch)?,
        Shape::Full(_) => squash::run(&source, &path, options, watch)?,
    };
    let unproven = source.check(&sums)?;
    let FinishedStream { file, size, adler32, data_size, .. } = done;
    new.finish(&path, &file, stream.time)?;
    new.write(&format!("{}.chksum", stream.name), adler32.to_string().as_bytes(), stream.time)?;
    Ok(ConvertedStream {
        file: stream.name.clone(),
        disk: stream.disk.clone(),
        source_bytes: stream.sources.iter().map(|entry| entry.file_len).sum(),
        file_bytes: size,
        data_bytes: data_size,
        unproven,
    })
}
