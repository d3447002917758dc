//! Which point supplies which part of a disk.

use super::error::DiskError;
use super::index::Cursor;
use super::layered::Layered;
use super::raw::RawDisk;
use super::source::Source;
use crate::chain::PointId;
use crate::restore::map::{self, Sweep};
use std::ops::Range;

/// A range of a disk that one point supplies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The range. Never empty.
    pub disk: Range<u64>,
    /// The point whose stream or image has it; `None` where it is zero because nobody has anything there. What a point has
    /// may be zero too.
    pub from: Option<PointId>,
}

/// Iterator over the extents of a range of a [`Disk`](super::Disk): in order, without gaps, neighbours of one point joined. Ends after the
/// first error.
#[derive(Debug)]
pub struct Extents<'a> {
    parts: Parts<'a>,
    /// The next one, which may go on.
    open: Option<Extent>,
}

#[derive(Debug)]
enum Parts<'a> {
    Layers { layers: &'a Layered, sweep: Sweep<Cursor<'a>>, range: Range<u64> },
    Raw { raw: &'a RawDisk, at: u64, end: u64 },
}

impl<'a> Extents<'a> {
    pub(super) fn new(source: &'a Source, range: Range<u64>) -> Self {
        let parts = match source {
            Source::Layers(layers) => Parts::Layers { layers, sweep: layers.sweep(range.clone()), range },
            Source::Raw(raw) => Parts::Raw { raw, at: range.start, end: range.end },
        };
        Self { parts, open: None }
    }
}

impl Parts<'_> {
    fn next(&mut self) -> Option<Result<Extent, DiskError>> {
        match self {
            Self::Layers { layers, sweep, range } => {
                let of_segment = |segment: map::Segment| {
                    let from = match segment.source {
                        map::Source::Zero => None,
                        map::Source::Piece { layer, .. } => Some(layers.points[layer]),
                    };
                    Extent { disk: segment.disk, from }
                };
                let failed = |source| layers.unlisted(range, source);
                Some(sweep.next()?.map(of_segment).map_err(failed))
            }
            Self::Raw { raw, at, end } => {
                if *at >= *end {
                    return None;
                }
                let (disk, is_content) = raw.extent(*at, *end);
                *at = disk.end;
                Some(Ok(Extent { disk, from: is_content.then_some(raw.taken) }))
            }
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match (self.parts.next(), &mut self.open) {
                (Some(Ok(part)), Some(open)) if open.from == part.from => open.disk.end = part.disk.end,
                (Some(Ok(part)), open) => {
                    if let Some(done) = open.replace(part) {
                        return Some(Ok(done));
                    }
                }
                (Some(Err(error)), open) => {
                    *open = None;
                    return Some(Err(error));
                }
                (None, open) => return open.take().map(Ok),
            }
        }
    }
}
