//! A disk at a point as a raw image file.
//!
//! Memory: per worker, one piece stored and one plain (32 MiB each at most); beside them one frame per stream.

use super::map::{Layer, MapError};
use super::sparse::SparseImage;
use super::units::Units;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, RawImage, SetError};
use crate::stream::StreamError;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a raw image copied at once.
const COPY_LEN: usize = 4 << 20;

/// How to extract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Replace a file of the target's name.
    pub replace: bool,
    /// Threads that read, decode and write.
    pub workers: NonZeroUsize,
}

/// Hears how far an extraction has come. Called from several threads.
pub trait Watch: Sync {
    /// `at` bytes of a disk of `size` bytes are done or being done.
    fn progress(&self, at: u64, size: u64);
}

/// Nobody listens.
impl Watch for () {
    fn progress(&self, _at: u64, _size: u64) {}
}

/// What an extraction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes written: what was not zero.
    pub written_bytes: u64,
    /// When the content was taken. Earlier than asked for when the disk is raw: such are copied with the full only.
    pub taken: PointId,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The set does not have that disk at that point.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A stream is damaged.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A raw image could not be read.
    #[error("Cannot read the raw image {}", path.display())]
    ReadRaw {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The target is there already.
    #[error("{} (or its .partial) exists already: choose another name, or allow to replace it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target could not be written.
    #[error("Cannot write {}", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Writes `disk` as it was at `point` to a new raw image file.
///
/// The file gets its name when all of it is written and durable, never before.
///
/// # Errors
/// [`ExtractError`]; nothing is left of the image then.
pub fn extract(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    match set.content(disk, point)? {
        DiskContent::Streams(entries) => {
            let layers =
                entries.iter().map(|entry| Layer::open(entry.path.clone())).collect::<Result<Vec<_>, _>>()?;
            let (size, written_bytes) = extract_layers(&layers, target, options, watch)?;
            Ok(Extracted { size, written_bytes, taken: point })
        }
        DiskContent::Raw { image, taken } => {
            let written_bytes = copy_raw(image, target, options, watch)?;
            Ok(Extracted { size: image.len, written_bytes, taken })
        }
    }
}

/// Applies layers, oldest first, to a new raw image file. Returns its size and the bytes written.
///
/// # Errors
/// As [`extract`].
pub fn extract_layers(
    layers: &[Layer],
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<(u64, u64), ExtractError> {
    let units = Units::new(layers);
    let size = units.size();
    let image = create(target, size, options)?;
    let job = Job { layers, units: Mutex::new(Some(units)), image: &image, target, size, watch };
    let written = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers.get()).map(|_| scope.spawn(|| job.work())).collect();
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        results.into_iter().sum::<Result<u64, ExtractError>>()
    })?;
    watch.progress(size, size);
    finish(image, target, options)?;
    Ok((size, written))
}

/// What the workers share.
struct Job<'a> {
    layers: &'a [Layer],
    /// `None` once a worker failed: the others stop at their next unit.
    units: Mutex<Option<Units<'a>>>,
    image: &'a SparseImage,
    target: &'a Path,
    size: u64,
    watch: &'a dyn Watch,
}

impl<'a> Job<'a> {
    fn work(&self) -> Result<u64, ExtractError> {
        let (mut stored, mut plain, mut written) = (Vec::new(), Vec::new(), 0);
        while let Some(unit) = self.next_unit()? {
            written += self.apply(&unit, &mut stored, &mut plain).inspect_err(|_| self.stop())?;
        }
        Ok(written)
    }

    fn next_unit(&self) -> Result<Option<super::units::Unit>, ExtractError> {
        let mut units = self.lock();
        let Some(source) = units.as_mut() else { return Ok(None) };
        let unit = source.next();
        self.watch.progress(source.at(), self.size);
        match unit.transpose() {
            Ok(unit) => Ok(unit),
            Err(error) => {
                *units = None;
                Err(error.into())
            }
        }
    }

    fn apply(
        &self,
        unit: &super::units::Unit,
        stored: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<u64, ExtractError> {
        let layer = &self.layers[unit.layer];
        layer
            .stream
            .read_piece(&unit.piece, stored, plain)
            .map_err(|source: StreamError| MapError { path: layer.path.clone(), source })?;
        let base = unit.piece.disk.start;
        let mut written = 0;
        for range in &unit.visible {
            let bytes = &plain[(range.start - base) as usize..(range.end - base) as usize];
            written += self
                .image
                .write(range.start, bytes)
                .map_err(|source| ExtractError::Write { path: self.target.to_owned(), source })?;
        }
        Ok(written)
    }

    fn stop(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Units<'a>>> {
        // A worker that panicked is joined and panics again; until then the others may go on.
        self.units.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn copy_raw(
    source: &RawImage,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<u64, ExtractError> {
    let failed = |error| ExtractError::ReadRaw { path: source.path.clone(), source: error };
    let mut input = std::fs::File::open(&source.path).map_err(failed)?;
    let image = create(target, source.len, options)?;
    let mut buffer = vec![0; COPY_LEN];
    let (mut at, mut written) = (0, 0);
    while at < source.len {
        let len = COPY_LEN.min(usize::try_from(source.len - at).unwrap_or(COPY_LEN));
        input.read_exact(&mut buffer[..len]).map_err(failed)?;
        written += image
            .write(at, &buffer[..len])
            .map_err(|source| ExtractError::Write { path: target.to_owned(), source })?;
        at += len as u64;
        watch.progress(at, source.len);
    }
    finish(image, target, options)?;
    Ok(written)
}

fn create(target: &Path, size: u64, options: ExtractOptions) -> Result<SparseImage, ExtractError> {
    SparseImage::create(target, size, options.replace).map_err(|source| target_error(target, source))
}

fn finish(image: SparseImage, target: &Path, options: ExtractOptions) -> Result<(), ExtractError> {
    image.finish(options.replace).map_err(|source| target_error(target, source))
}

fn target_error(target: &Path, source: std::io::Error) -> ExtractError {
    let path = target.to_owned();
    if source.kind() == std::io::ErrorKind::AlreadyExists {
        return ExtractError::Exists { path };
    }
    ExtractError::Write { path, source }
}
