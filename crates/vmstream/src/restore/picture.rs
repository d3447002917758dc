//! A chain as a picture: for each point and each part of the disk, whether it has data there, and whether that counts.

use super::error::ExtractError;
use super::map::{Layer, MapError, disk_size};
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId};
use crate::disk::{Check, Disk, DiskOptions, Extent};
use crate::stream::FrameKind;
use std::collections::BTreeMap;
use std::ops::Range;

/// A disk at a point, by the streams that make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes that no stream has: they are zero.
    pub unset_bytes: u64,
    /// One for each stream, oldest first.
    pub rows: Vec<Row>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The point it belongs to.
    pub point: PointId,
    /// Bytes it has as data.
    pub data_bytes: u64,
    /// Bytes of them that the disk takes from it: newer streams have the others.
    pub used_bytes: u64,
    /// Bytes it has as zeros.
    pub zero_bytes: u64,
    /// The disk in equal parts.
    pub cells: Vec<Cell>,
}

/// What a stream has in one part of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Nothing.
    Nothing,
    /// Zeros only.
    Zeros,
    /// Data that newer streams have again.
    Superseded,
    /// Data that the disk takes from here.
    Used,
}

/// Draws `disk` at a point in so many parts.
///
/// # Errors
/// [`ExtractError`] when a stream's headers cannot be walked.
pub fn picture(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    parts: usize,
) -> Result<Picture, ExtractError> {
    let (points, layers) = match layers(set, disk, point)? {
        Ok(layers) => layers,
        Err((size, taken)) => {
            let row = Row {
                point: taken,
                data_bytes: size,
                used_bytes: size,
                zero_bytes: 0,
                cells: vec![Cell::Used; parts],
            };
            return Ok(Picture { size, unset_bytes: 0, rows: vec![row] });
        }
    };
    let size = disk_size(&layers);
    let scale = Scale { size, parts };
    let mut rows = Vec::with_capacity(layers.len());
    for (layer, point) in layers.iter().zip(points) {
        let cells = vec![Cell::Nothing; parts];
        let mut row = Row { point, data_bytes: 0, used_bytes: 0, zero_bytes: 0, cells };
        for frame in layer.stream.frames() {
            let frame = frame.map_err(|source| MapError { path: layer.path.clone(), source })?;
            let (cell, bytes) = match frame.header.kind {
                FrameKind::Data => (Cell::Superseded, &mut row.data_bytes),
                _ => (Cell::Zeros, &mut row.zero_bytes),
            };
            *bytes += frame.header.len;
            scale.mark(&mut row.cells, frame.disk(), cell);
        }
        rows.push(row);
    }
    let row_of: BTreeMap<PointId, usize> = rows.iter().map(|row| row.point).zip(0..).collect();
    let mut unset_bytes = 0;
    for extent in supplier(set, disk, point)?.extents(0..size) {
        let Extent { disk, from } = extent?;
        let bytes = disk.end - disk.start;
        match from.and_then(|point| row_of.get(&point)) {
            None => unset_bytes += bytes,
            Some(&number) => {
                rows[number].used_bytes += bytes;
                scale.mark(&mut rows[number].cells, disk, Cell::Used);
            }
        }
    }
    Ok(Picture { size, unset_bytes, rows })
}

/// Tells which point supplies each range of `disk`, `None` where it is zero because no stream has it: in order, without
/// gaps, neighbours joined. There may be millions.
///
/// # Errors
/// As [`picture`].
pub fn each_supply(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    mut tell: impl FnMut(Range<u64>, Option<PointId>),
) -> Result<(), ExtractError> {
    if let DiskContent::Raw { image, taken } = set.content(disk, point)? {
        tell(0..image.len, Some(taken));
        return Ok(());
    }
    let disk = supplier(set, disk, point)?;
    disk.extents(0..disk.size()).try_for_each(|extent| {
        let Extent { disk, from } = extent?;
        tell(disk, from);
        Ok(())
    })
}

/// The disk, to be asked what comes from where: no content is read.
fn supplier(set: &BackupSet, disk: &DiskTarget, point: PointId) -> Result<Disk, ExtractError> {
    let options = DiskOptions { check: Check::Skip, ..DiskOptions::default() };
    Disk::open(set, disk, point, options, &|_| ())
}

/// The streams and their points; for a raw disk its size and when it was taken.
type Layers = Result<(Vec<PointId>, Vec<Layer>), (u64, PointId)>;

fn layers(set: &BackupSet, disk: &DiskTarget, point: PointId) -> Result<Layers, ExtractError> {
    let entries = match set.content(disk, point)? {
        DiskContent::Raw { image, taken } => return Ok(Err((image.len, taken))),
        DiskContent::Streams(entries) => entries,
    };
    let points = set.stream_points(disk, point)?;
    let layers = entries.iter().map(|entry| Layer::open(entry.path.clone())).collect::<Result<_, _>>()?;
    Ok(Ok((points, layers)))
}

struct Scale {
    size: u64,
    parts: usize,
}

impl Scale {
    fn mark(&self, cells: &mut [Cell], range: Range<u64>, cell: Cell) {
        if self.size == 0 || self.parts == 0 {
            return;
        }
        let part = |at: u64| (u128::from(at) * self.parts as u128 / u128::from(self.size)) as usize;
        // A disk that shrank: what lies behind its end is not drawn.
        let end = range.end.min(self.size);
        if range.start < end {
            cells[part(range.start)..=part(end - 1)].iter_mut().for_each(|old| *old = cell.max(*old));
        }
    }
}
