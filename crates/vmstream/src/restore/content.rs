//! A disk at a point as bytes to read, window by window: for those that need them in order.

use super::claim;
use super::error::ExtractError;
use super::map::{Layer, MapError, disk_size};
use super::ordered;
use super::summed::Summed;
use super::window::{WINDOW_LEN, Window, WindowPlan, Windows};
use crate::blob::next_data;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, StreamEntry, UnusedSidecar};
use crate::regular;
use crate::sidecar::{Checked, Sidecar, Tables};
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

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

/// Opens streams, oldest first. What is read of uncompressed ones that have a sidecar in the tables is held against its blocks.
pub(super) fn open_layers(
    entries: &[&StreamEntry],
    checked_by: Option<&Tables>,
) -> Result<Vec<Layer>, MapError> {
    let open = |(number, entry): (usize, &&StreamEntry)| {
        let path = entry.sidecar.as_deref().filter(|_| checked_by.is_some_and(|tables| tables.have(number)));
        let layer = Layer::open(entry.path.clone())?;
        // Nothing inside an uncompressed stream covers its content. A sidecar could be opened before; one that is gone
        // meanwhile checks nothing.
        let plain = path.filter(|_| !layer.stream.is_compressed());
        Ok(layer.checked_by(plain.and_then(|path| Sidecar::open(path).ok())))
    };
    entries.iter().enumerate().map(open).collect()
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
        let work = |part: Part, (window, found): &mut (Window, Option<R>)| {
            self.fill(part, window, &summed)?;
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
        ordered::run(workers, || (Window::default(), None), self.parts(), work, take)?;
        summed.check()?;
        Ok(proof.map(|proof| proof.checked))
    }

    fn parts(&self) -> Box<dyn Iterator<Item = Result<Part, ExtractError>> + Send + '_> {
        match &self.source {
            ContentSource::Layers(layers) => {
                Box::new(Windows::new(layers).map(|plan| Ok(Part::Layers(plan?))))
            }
            ContentSource::Raw { .. } => {
                let end = |at: u64| self.size.min(at.saturating_add(WINDOW_LEN));
                let starts = (0..self.size).step_by(WINDOW_LEN as usize);
                Box::new(starts.map(move |at| Ok(Part::Raw(at..end(at)))))
            }
        }
    }

    fn fill(&self, part: Part, window: &mut Window, summed: &Summed) -> Result<(), ExtractError> {
        match (&self.source, part) {
            (ContentSource::Layers(layers), Part::Layers(plan)) => {
                Ok(window.fill(layers, &plan, summed, &|_| ())?)
            }
            (ContentSource::Raw { path, file }, Part::Raw(disk)) => {
                let (start, is_hole) = (disk.start, next_data(file, disk.start, self.size) >= disk.end);
                window.begin(disk, is_hole);
                file.read_exact_at(&mut window.bytes, start)
                    .map_err(|source| ExtractError::ReadRaw { path: path.clone(), source })
            }
            // Parts are of the source that they are read from.
            (ContentSource::Layers(_), Part::Raw(_)) | (ContentSource::Raw { .. }, Part::Layers(_)) => Ok(()),
        }
    }
}

/// A window to be read.
enum Part {
    Layers(WindowPlan),
    Raw(Range<u64>),
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
            Some(known) => self.checked.append(&window.check(&known)),
            None => self.checked.unproven_bytes += window.disk.end - window.disk.start,
        }
    }
}
