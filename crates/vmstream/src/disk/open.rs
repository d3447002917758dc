//! A disk of a set, opened.

use super::error::DiskError;
use super::extents::Extents;
use super::index::Index;
use super::layered::Layered;
use super::options::{Check, DiskOptions, Proof};
use super::raw::RawDisk;
use super::source::Source;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, RawImage, StreamEntry, UnusedSidecar};
use crate::pooled::Pooled;
use crate::restore::map::{Layer, disk_size, limits};
use crate::restore::summed::sum_layers;
use crate::restore::{ExtractError, MapError};
use crate::sidecar::{Sidecar, Tables};
use crate::stream::{Problem, StreamError};
use std::ops::Range;

/// A disk as it was at a restore point, to be read anywhere.
///
/// Nothing is put together: a read finds the newest stream that has each byte, decodes what holds it, and checks that
/// against what was written down with it. Any number of threads may read at once.
///
/// What is opened stays open for as long as the disk is, and the set must stay as it is: a file that is cut short or
/// replaced meanwhile is an error where it is read.
#[derive(Debug)]
pub struct Disk {
    source: Source,
    size: u64,
    taken: PointId,
    unused_sidecars: Vec<UnusedSidecar>,
}

impl Disk {
    /// Opens `disk` as it was at `point`. Sidecars tell where its blocks are; of streams without one, the headers of all
    /// frames are walked. `read` hears of the bytes that are read to check streams first.
    ///
    /// # Errors
    /// [`ExtractError`] for a disk that is not there, or whose streams cannot be used. Under [`Check::First`] also for
    /// streams that belong elsewhere or are not what their checksum files say.
    pub fn open(
        set: &BackupSet,
        disk: &DiskTarget,
        point: PointId,
        options: DiskOptions,
        read: &dyn Fn(u64),
    ) -> Result<Self, ExtractError> {
        let content = set.content(disk, point)?;
        if options.check == Check::First {
            ExtractError::check_length(&content)?;
            ExtractError::check_place(set, &content)?;
        }
        let (tables, mut unused) = content.tables();
        match content {
            DiskContent::Raw { image, taken } => Self::of_raw((image, taken), tables, options, unused),
            DiskContent::Streams(entries) => {
                let open = |entry: &&StreamEntry| Layer::open(entry.path.clone());
                let layers = entries.iter().map(open).collect::<Result<Vec<_>, _>>()?;
                let proven = match options.check {
                    Check::First => sum_layers(&entries, &layers, (&tables, &mut unused), read)?,
                    Check::Skip => (0..layers.len()).map(|number| tables.have(number)).collect(),
                };
                let indexes = indexes(&entries, &layers, tables.into_sidecars())?;
                let (size, points) = (disk_size(&layers), set.stream_points(disk, point)?);
                let source =
                    Source::Layers(Box::new(Layered::new((layers, indexes, points), &proven, options)));
                Ok(Self { source, size, taken: point, unused_sidecars: unused })
            }
        }
    }

    fn of_raw(
        (image, taken): (&RawImage, PointId),
        tables: Tables,
        options: DiskOptions,
        mut unused_sidecars: Vec<UnusedSidecar>,
    ) -> Result<Self, ExtractError> {
        let path = || image.path.clone();
        let failed = |source| ExtractError::ReadRaw { path: path(), source };
        let file = Pooled::open(&image.path).map_err(failed)?;
        let size = file.len();
        let sidecar = tables.into_sidecars().pop().flatten();
        let raw = match RawDisk::new((path(), taken), (Box::new(file), size), sidecar, options) {
            Ok(raw) => raw,
            // It could be read before: it proves nothing.
            Err(error) => {
                unused_sidecars.extend(image.sidecar.as_deref().map(|path| UnusedSidecar::new(path, &error)));
                let file = Pooled::open(&image.path).map_err(failed)?;
                let again = RawDisk::new((path(), taken), (Box::new(file), size), None, options);
                again.map_err(|error| failed(std::io::Error::other(error)))?
            }
        };
        Ok(Self { source: Source::Raw(Box::new(raw)), size, taken, unused_sidecars })
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When its content was taken: earlier than asked for when the disk is raw, as such are copied with the full only.
    pub fn taken(&self) -> PointId {
        self.taken
    }

    /// Sidecars that say nothing of it.
    pub fn unused_sidecars(&self) -> &[UnusedSidecar] {
        &self.unused_sidecars
    }

    /// Fills `out` with the bytes from `offset` on. They come from the disk's streams, each held against its proof, or not
    /// at all.
    ///
    /// # Errors
    /// [`DiskError`], which names point, file, frame and range of the disk where it is damage. `out` means nothing then.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<Proof, DiskError> {
        let len = out.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(DiskError::PastEnd { offset, len, size: self.size });
        }
        match &self.source {
            Source::Layers(layers) => layers.read_at(offset, out),
            Source::Raw(raw) => raw.read_at(offset, out),
        }
    }

    /// Which point supplies what of a range, in order and without gaps. No content is read. What lies behind the disk's end is
    /// not told.
    pub fn extents(&self, range: Range<u64>) -> Extents<'_> {
        Extents::new(&self.source, range.start.min(self.size)..range.end.min(self.size))
    }

    /// Bytes of content that were decoded, or of an image that were read, since it was opened. What was kept counts once.
    pub fn decoded_bytes(&self) -> u64 {
        match &self.source {
            Source::Layers(layers) => layers.decoded(),
            Source::Raw(raw) => raw.decoded(),
        }
    }
}

/// Where each layer has what: by its sidecar, or by its frames where that is missing or not enough.
fn indexes(
    entries: &[&StreamEntry],
    layers: &[Layer],
    sidecars: Vec<Option<Sidecar>>,
) -> Result<Vec<Index>, MapError> {
    let mut beneath = false;
    let each = entries.iter().zip(layers).zip(sidecars).zip(limits(layers));
    each.map(|(((entry, layer), sidecar), limit)| {
        // The meta text decides what counts of a stream, and no block covers it.
        let said = sidecar.as_ref().map(Sidecar::head);
        let meta = layer.stream.meta();
        if said.is_some_and(|head| {
            head.granules.disk_size() != meta.virtual_size || head.stands_alone() == meta.incremental
        }) {
            let source = StreamError::damaged(None, 0, Some(0..meta.virtual_size), Problem::OtherMeta);
            return Err(MapError { path: layer.path.clone(), source });
        }
        // Its zeros hide what older streams have, and no sidecar lists them.
        let hides = beneath && !meta.incremental;
        beneath |= !layer.is_placeholder();
        match (sidecar, &entry.sidecar) {
            (Some(sidecar), Some(path)) if !hides => Index::of_sidecar(layer, (sidecar, path.clone()), limit),
            (sidecar, _) => Index::of_frames(layer, sidecar.as_ref(), limit),
        }
    })
    .collect()
}
