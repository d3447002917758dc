//! A disk at a point as bytes to read, window by window: for those that need them in order.

use super::extract::ExtractError;
use super::map::{BlockMap, Layer, MapError, Segment, Source, disk_size};
use super::ordered;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId};
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of the disk put together at once. A piece of the largest kind lies in two windows at most.
pub(crate) const WINDOW_LEN: u64 = 32 << 20;

/// The bytes of a disk at a point.
#[derive(Debug)]
pub(crate) struct Content {
    source: ContentSource,
    pub(crate) size: u64,
    pub(crate) taken: PointId,
}

#[derive(Debug)]
enum ContentSource {
    Layers(Vec<Layer>),
    Raw { path: PathBuf, file: File },
}

/// One window, as it is being put together.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) disk: Range<u64>,
    /// Its bytes; empty when all of them are zero because no stream has any.
    pub(crate) bytes: Vec<u8>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Window {
    /// True when no stream has any of it.
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Content {
    pub(crate) fn open(set: &BackupSet, disk: &DiskTarget, point: PointId) -> Result<Self, ExtractError> {
        match set.content(disk, point)? {
            DiskContent::Streams(entries) => {
                let layers = entries.iter().map(|entry| Layer::open(entry.path.clone()));
                let layers = layers.collect::<Result<Vec<_>, _>>()?;
                let size = disk_size(&layers);
                Ok(Self { source: ContentSource::Layers(layers), size, taken: point })
            }
            DiskContent::Raw { image, taken } => {
                let path = image.path.clone();
                let file = File::open(&path)
                    .map_err(|source| ExtractError::ReadRaw { path: path.clone(), source })?;
                Ok(Self { source: ContentSource::Raw { path, file }, size: image.len, taken })
            }
        }
    }

    /// Puts the disk together on so many threads, which also `look` at each window; `see` meets the windows with what
    /// was found there in order, from 0 to the disk's size.
    pub(crate) fn read<R: Send>(
        &self,
        workers: NonZeroUsize,
        look: impl Fn(&Window) -> Result<R, ExtractError> + Sync,
        mut see: impl FnMut(&Window, R) -> Result<(), ExtractError>,
    ) -> Result<(), ExtractError> {
        let work = |plan: Plan, (window, found): &mut (Window, Option<R>)| {
            self.fill(&plan, window)?;
            *found = Some(look(window)?);
            Ok(())
        };
        let take = |(window, found): &mut (Window, Option<R>)| match found.take() {
            Some(found) => see(window, found),
            None => Ok(()),
        };
        ordered::run(workers, || (Window::default(), None), Windows::new(self), work, take)
    }

    fn fill(&self, plan: &Plan, window: &mut Window) -> Result<(), ExtractError> {
        window.disk = plan.disk.clone();
        window.bytes.clear();
        let len = (plan.disk.end - plan.disk.start) as usize;
        match &self.source {
            ContentSource::Raw { path, file } => {
                window.bytes.resize(len, 0);
                file.read_exact_at(&mut window.bytes, plan.disk.start)
                    .map_err(|source| ExtractError::ReadRaw { path: path.clone(), source })
            }
            ContentSource::Layers(_) if plan.segments.is_empty() => Ok(()),
            ContentSource::Layers(layers) => {
                window.bytes.resize(len, 0);
                fill_from(layers, plan, window).map_err(ExtractError::Map)
            }
        }
    }
}

/// Decodes each piece once for all its segments in the window.
fn fill_from(layers: &[Layer], plan: &Plan, window: &mut Window) -> Result<(), MapError> {
    let mut last = None;
    for (layer, piece, disk) in &plan.segments {
        if last != Some((*layer, piece.stored_at)) {
            let Layer { path, stream } = &layers[*layer];
            stream
                .read_piece(piece, &mut window.stored, &mut window.plain)
                .map_err(|source| MapError { path: path.clone(), source })?;
            last = Some((*layer, piece.stored_at));
        }
        let from = (disk.start - piece.disk.start) as usize..(disk.end - piece.disk.start) as usize;
        let to = (disk.start - plan.disk.start) as usize..(disk.end - plan.disk.start) as usize;
        window.bytes[to].copy_from_slice(&window.plain[from]);
    }
    Ok(())
}

/// What a window is made of, by piece.
#[derive(Debug)]
struct Plan {
    disk: Range<u64>,
    segments: Vec<(usize, crate::stream::Piece, Range<u64>)>,
}

struct Windows<'a> {
    map: Option<BlockMap<'a>>,
    /// A segment that goes on in the next window.
    rest: Option<Segment>,
    size: u64,
    at: u64,
    done: bool,
}

impl<'a> Windows<'a> {
    fn new(content: &'a Content) -> Self {
        let map = match &content.source {
            ContentSource::Layers(layers) => Some(BlockMap::new(layers)),
            ContentSource::Raw { .. } => None,
        };
        Self { map, rest: None, size: content.size, at: 0, done: false }
    }

    fn plan(&mut self) -> Result<Plan, MapError> {
        let end = self.size.min(self.at.saturating_add(WINDOW_LEN));
        let mut plan = Plan { disk: self.at..end, segments: Vec::new() };
        self.at = end;
        let Some(map) = &mut self.map else { return Ok(plan) };
        while let Some(segment) = self.rest.take().map(Ok).or_else(|| map.next()).transpose()? {
            let cut = segment.disk.end.min(end);
            if cut > segment.disk.start {
                if let Source::Piece { layer, piece } = &segment.source {
                    plan.segments.push((*layer, piece.clone(), segment.disk.start..cut));
                }
            }
            if segment.disk.end > end {
                self.rest = Some(Segment { disk: cut..segment.disk.end, ..segment });
                break;
            }
            if segment.disk.end == end && end < self.size {
                break;
            }
        }
        plan.segments.sort_by_key(|(layer, piece, disk)| (*layer, piece.stored_at, disk.start));
        Ok(plan)
    }
}

impl Iterator for Windows<'_> {
    type Item = Result<Plan, ExtractError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.at >= self.size && self.size > 0 {
            return None;
        }
        let plan = self.plan();
        // A disk of no bytes has one window, so that its streams are walked all the same.
        self.done = plan.is_err() || self.at >= self.size;
        Some(plan.map_err(ExtractError::Map))
    }
}
