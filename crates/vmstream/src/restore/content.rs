//! A disk at a point as bytes to read, window by window: for those that need them in order.

use super::claim;
use super::error::ExtractError;
use super::map::{BlockMap, Layer, MapError, Segment, Source, disk_size};
use super::ordered;
use super::summed::{Summed, stored_of};
use crate::blob::next_data;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, StreamEntry, UnusedSidecar};
use crate::regular;
use crate::sidecar::{Checked, PartSums, Sidecar, Tables};
use crate::stream::running::RunningSum;
use crate::stream::{Piece, StreamError};
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Bytes of the disk put together at once. A piece of the largest kind lies in two windows at most.
pub(crate) const WINDOW_LEN: u64 = 32 << 20;

/// The bytes of a disk at a point.
#[derive(Debug)]
pub(crate) struct Content {
    source: ContentSource,
    pub(crate) size: u64,
    pub(crate) taken: PointId,
    on_wrong: OnWrong,
    /// What its sidecars say of it.
    tables: Mutex<Option<Tables>>,
    /// The streams that their checksums prove.
    summed: Mutex<Summed>,
    /// Those that say nothing.
    pub(crate) unused_sidecars: Vec<UnusedSidecar>,
}

/// What to do about content that is not what the sidecars say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnWrong {
    /// Stop before anybody sees it.
    Fail,
    /// Go on, and count it.
    Note,
    /// The same, also of streams that are not what their checksum files say.
    Allow,
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
    /// Of each MiB of it, when they are wanted.
    sums: Vec<PartSums>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

/// Opens streams, oldest first. What is read of those that have a sidecar in the tables is held against its blocks.
pub(super) fn open_layers(
    entries: &[&StreamEntry],
    checked_by: Option<&Tables>,
) -> Result<Vec<Layer>, MapError> {
    let open = |(number, entry): (usize, &&StreamEntry)| {
        let path = entry.sidecar.as_deref().filter(|_| checked_by.is_some_and(|tables| tables.have(number)));
        // It could be opened before; one that is gone meanwhile checks nothing.
        let sidecar = path.and_then(|path| Sidecar::open(path).ok());
        Ok(Layer::open(entry.path.clone())?.checked_by(sidecar))
    };
    entries.iter().enumerate().map(open).collect()
}

impl Window {
    fn sum(&mut self) {
        self.sums.clear();
        match &self.bytes[..] {
            // The sums of zeros are zeros.
            [] => self.sums.resize(
                (self.disk.end - self.disk.start).div_ceil(PartSums::LEN) as usize,
                PartSums::default(),
            ),
            bytes => self.sums.extend(bytes.chunks(PartSums::LEN as usize).map(PartSums::of)),
        }
    }

    /// True when no stream has any of it.
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Content {
    pub(crate) fn open(
        set: &BackupSet,
        disk: &DiskTarget,
        point: PointId,
        on_wrong: OnWrong,
    ) -> Result<Self, ExtractError> {
        let content = set.content(disk, point)?;
        if on_wrong == OnWrong::Fail {
            ExtractError::check_place(set, &content)?;
        }
        let (mut tables, mut unused_sidecars) = content.tables();
        let checked_by = Some(&tables).filter(|_| on_wrong == OnWrong::Fail);
        match content {
            DiskContent::Streams(entries) => {
                let layers = open_layers(&entries, checked_by)?;
                let size = disk_size(&layers);
                claim::check_layers(size, &layers)?;
                let source = ContentSource::Layers(layers);
                let summed = match on_wrong {
                    OnWrong::Allow => Summed::none(),
                    _ => {
                        let know_all = tables.know_all(size);
                        Summed::of(&entries, (&tables, know_all), &mut unused_sidecars)?
                    }
                };
                Ok(Self::new((source, size), point, on_wrong, (tables, summed, unused_sidecars)))
            }
            DiskContent::Raw { image, taken } => {
                let path = image.path.clone();
                claim::check(image.len, claim::allocated(&path))?;
                let file = regular::open(&path)
                    .map_err(|source| ExtractError::ReadRaw { path: path.clone(), source })?;
                let source = ContentSource::Raw { path, file };
                Ok(Self::new((source, image.len), taken, on_wrong, (tables, Summed::none(), unused_sidecars)))
            }
        }
    }

    fn new(
        (source, size): (ContentSource, u64),
        taken: PointId,
        on_wrong: OnWrong,
        (tables, summed, unused_sidecars): (Tables, Summed, Vec<UnusedSidecar>),
    ) -> Self {
        let tables = Mutex::new(Some(tables).filter(Tables::know_the_last));
        Self { source, size, taken, on_wrong, tables, summed: Mutex::new(summed), unused_sidecars }
    }

    /// Puts the disk together on so many threads, which also `look` at each window; `see` meets the windows with what
    /// was found there in order, from 0 to the disk's size. Returns what the sidecars say of the content, at the first
    /// reading.
    pub(crate) fn read<R: Send>(
        &self,
        workers: NonZeroUsize,
        look: impl Fn(&Window) -> Result<R, ExtractError> + Sync,
        mut see: impl FnMut(&Window, R) -> Result<(), ExtractError>,
    ) -> Result<Option<Checked>, ExtractError> {
        let mut proof = Proof::new(self.tables.lock().unwrap_or_else(PoisonError::into_inner).take());
        let summed = std::mem::replace(
            &mut *self.summed.lock().unwrap_or_else(PoisonError::into_inner),
            Summed::none(),
        );
        let sums_wanted = proof.is_some();
        let work = |plan: Plan, (window, found): &mut (Window, Option<R>)| {
            self.fill(&plan, window, &summed)?;
            if sums_wanted {
                window.sum();
            }
            *found = Some(look(window)?);
            Ok(())
        };
        let take = |(window, found): &mut (Window, Option<R>)| match found.take() {
            Some(found) => {
                if let Some(proof) = &mut proof {
                    proof.add(window, self.size);
                    if self.on_wrong == OnWrong::Fail {
                        ExtractError::check(&proof.checked)?;
                    }
                }
                see(window, found)
            }
            None => Ok(()),
        };
        ordered::run(workers, || (Window::default(), None), Windows::new(self), work, take)?;
        summed.check()?;
        Ok(proof.map(|proof| proof.checked))
    }

    fn fill(&self, plan: &Plan, window: &mut Window, summed: &Summed) -> Result<(), ExtractError> {
        window.disk = plan.disk.clone();
        window.bytes.clear();
        let len = (plan.disk.end - plan.disk.start) as usize;
        match &self.source {
            ContentSource::Raw { path, file } => {
                if next_data(file, plan.disk.start, self.size) >= plan.disk.end {
                    return Ok(());
                }
                window.bytes.resize(len, 0);
                file.read_exact_at(&mut window.bytes, plan.disk.start)
                    .map_err(|source| ExtractError::ReadRaw { path: path.clone(), source })
            }
            ContentSource::Layers(layers) => {
                window.bytes.resize(if plan.segments.is_empty() { 0 } else { len }, 0);
                fill_from(layers, plan, window, summed).map_err(ExtractError::Map)
            }
        }
    }
}

/// Windows held against what the sidecars say.
struct Proof {
    /// `None` once they could not be read any more: what comes is unproven.
    tables: Option<Tables>,
    checked: Checked,
}

impl Proof {
    fn new(tables: Option<Tables>) -> Option<Self> {
        tables.map(|tables| Self { tables: Some(tables), checked: Checked::default() })
    }

    /// Adds the next window.
    fn add(&mut self, window: &Window, disk_size: u64) {
        let looked = self.tables.as_mut().map(|tables| tables.last_window(&window.disk)).transpose();
        let known = looked.unwrap_or_else(|_| {
            self.tables = None;
            None
        });
        match known.flatten().filter(|(granules, _)| granules.disk_size() == disk_size) {
            Some(known) => self.checked.add_sums(&known, window.disk.start, |at| window.sums.get(at)),
            None => self.checked.unproven_bytes += window.disk.end - window.disk.start,
        }
    }
}

/// Decodes each piece once for all its segments in the window, and sums the files where that is wanted.
fn fill_from(layers: &[Layer], plan: &Plan, window: &mut Window, summed: &Summed) -> Result<(), MapError> {
    for (number, file) in &plan.files {
        let layer = &layers[*number];
        let mut sum = summed.begin(*number, layer, file.start);
        fill_from_layer(layer, plan.segments_of(*number), (&plan.disk, window), &mut sum)
            .map_err(|source| MapError { path: layer.path.clone(), source })?;
        summed.end((*number, layer), file.clone(), sum)?;
    }
    Ok(())
}

fn fill_from_layer(
    layer: &Layer,
    segments: &[PlanSegment],
    (window_disk, window): (&Range<u64>, &mut Window),
    sum: &mut Option<RunningSum<'_>>,
) -> Result<(), StreamError> {
    let mut last = None;
    for (_, piece, disk) in segments {
        if last != Some(piece.stored_at) {
            layer.stream.read_piece(piece, &mut window.stored, &mut window.plain)?;
            last = Some(piece.stored_at);
            // One that goes on from the window before was summed there.
            if let Some(sum) = sum.as_mut().filter(|sum| sum.at() <= piece.stored_at) {
                sum.take(piece, stored_of(piece, &window.stored, &window.plain), &|_| ())?;
            }
        }
        let from = (disk.start - piece.disk.start) as usize..(disk.end - piece.disk.start) as usize;
        let to = (disk.start - window_disk.start) as usize..(disk.end - window_disk.start) as usize;
        window.bytes[to].copy_from_slice(&window.plain[from]);
    }
    Ok(())
}

/// What a window is made of, by piece.
#[derive(Debug)]
struct Plan {
    disk: Range<u64>,
    /// By layer, in the order of its file.
    segments: Vec<PlanSegment>,
    /// Of each layer, what of its file belongs to this window: all of it, in order, without gaps.
    files: Vec<(usize, Range<u64>)>,
}

/// A layer, a piece of it, and the range of the disk to take from there.
type PlanSegment = (usize, Piece, Range<u64>);

impl Plan {
    fn segments_of(&self, layer: usize) -> &[PlanSegment] {
        let from = self.segments.partition_point(|(other, ..)| *other < layer);
        let to = self.segments.partition_point(|(other, ..)| *other <= layer);
        &self.segments[from..to]
    }
}

struct Windows<'a> {
    /// Up to where each layer's file was given out, and where it ends.
    files: Vec<Range<u64>>,
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
        let layers = map.as_ref().map_or(&[][..], BlockMap::layers);
        let files = layers.iter().map(|layer| 0..layer.stream.file_len()).collect();
        Self { files, map, rest: None, size: content.size, at: 0, done: false }
    }

    fn plan(&mut self) -> Result<Plan, MapError> {
        let end = self.size.min(self.at.saturating_add(WINDOW_LEN));
        let mut plan = Plan { disk: self.at..end, segments: Vec::new(), files: Vec::new() };
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
        for (number, file) in self.files.iter_mut().enumerate() {
            let of_layer = plan.segments_of(number);
            let last = of_layer.last().map_or(file.start, |(_, piece, _)| piece.stored_at + piece.stored_len);
            // The last window takes what nobody needed.
            let upto = if end >= self.size { file.end } else { last.max(file.start) };
            let part = std::mem::replace(&mut file.start, upto)..upto;
            if !part.is_empty() || !of_layer.is_empty() {
                plan.files.push((number, part));
            }
        }
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
