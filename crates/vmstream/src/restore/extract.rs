//! A disk at a point as a raw image file.
//!
//! Memory: per worker, one piece stored and one plain (32 MiB each at most); beside them one frame per stream.

use super::claim::Claim;
use super::content::open_layers;
use super::map::{Layer, MapError, disk_size};
use super::partial::{Existing, NewFileError};
use super::sparse::next_data;
use super::summed::{SumOf, Summed, stored_of};
use super::target::{self, Target};
use super::units::{Units, Work};
use crate::chain::{
    BackupSet, DiskContent, DiskTarget, PointId, RawImage, SetError, SetProblem, SidecarProblem,
    UnusedSidecar,
};
use crate::regular;
use crate::sidecar::{Checked, Ledger, Tables};
use crate::stream::StreamError;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a raw image copied at once.
const COPY_LEN: usize = 4 << 20;

/// What kind of image file to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes, with holes where they are zero.
    #[default]
    Raw,
    /// qcow2, by the programs `qemu-img` and `qemu-nbd`.
    Qcow2,
}

/// How to extract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Replace a file of the target's name, or the content of a block device.
    pub replace: bool,
    /// What kind of file. A block device takes raw only.
    pub format: Format,
    /// Give no image whose content is not what its sidecars say.
    pub check: bool,
    /// Threads that read, decode and write.
    pub workers: NonZeroUsize,
}

impl ExtractOptions {
    pub(super) fn existing(self) -> Existing {
        if self.replace { Existing::Replace } else { Existing::Keep }
    }
}

/// Hears how far an extraction has come. Called from several threads.
pub trait Watch: Sync {
    /// `at` bytes of a disk of `size` bytes are done or being done.
    fn progress(&self, at: u64, size: u64);

    /// Something that does not stop it, and that a person should know.
    fn warning(&self, _text: &str) {}
}

/// Nobody listens.
impl Watch for () {
    fn progress(&self, _at: u64, _size: u64) {}
}

/// What an extraction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes written: what was not zero.
    pub written_bytes: u64,
    /// When the content was taken. Earlier than asked for when the disk is raw: such are copied with the full only.
    pub taken: PointId,
    /// Bytes that are what the sidecars say; `None` when there are no sidecars.
    pub proven_bytes: Option<u64>,
    /// Bytes that are not.
    pub wrong_bytes: u64,
    /// Sidecars that say nothing of it.
    pub unused_sidecars: Vec<UnusedSidecar>,
}

impl Extracted {
    pub(super) fn new(
        (size, written_bytes): (u64, u64),
        taken: PointId,
        checked: Option<&Checked>,
        unused_sidecars: Vec<UnusedSidecar>,
    ) -> Self {
        let proven_bytes = checked.map(|checked| checked.proven_bytes);
        let wrong_bytes = checked.map_or(0, Checked::wrong_bytes);
        Self { size, written_bytes, taken, proven_bytes, wrong_bytes, unused_sidecars }
    }
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
    /// It is larger than anybody can believe.
    #[error(transparent)]
    Claim(#[from] Claim),
    /// A raw image could not be read.
    #[error("Cannot read the raw image {}", path.display())]
    ReadRaw {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The image file could not be begun, or got no name.
    #[error(transparent)]
    NewFile(#[from] NewFileError),
    /// The target is a block device, and nobody said that its content may go.
    #[error("{} is a block device: give --force to overwrite its content", path.display())]
    DeviceInTheWay {
        /// The device.
        path: PathBuf,
    },
    /// It would take an image away from somebody.
    #[error("{} is in use by {by}: stop that first, or choose another name. Nothing was replaced", path.display())]
    InUse {
        /// The target.
        path: PathBuf,
        /// Who has it.
        by: String,
    },
    /// A target that somebody may have open, and this user cannot see it.
    #[error("Nobody but root can tell whether {} is in use: {why}. Run as root: nothing was written", path.display())]
    UsersHidden {
        /// The target.
        path: PathBuf,
        /// Why the user does not see it.
        why: String,
    },
    /// A qcow2 image on a block device is not what anybody means.
    #[error("{} is a block device: it takes the raw format only", path.display())]
    DeviceFormat {
        /// The device.
        path: PathBuf,
    },
    /// The disk does not fit.
    #[error("{} has {room} bytes, the disk has {size}", path.display())]
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// Its bytes.
        room: u64,
        /// Those of the disk.
        size: u64,
    },
    /// A program that makes or reads qcow2 images is not installed.
    #[error(
        "qcow2 images need the program {program}, which is not installed: use the raw format, or install it"
    )]
    NoQemu {
        /// Which one.
        program: &'static str,
    },
    /// The qcow2 image could not be made.
    #[error("Cannot make the qcow2 image {}", path.display())]
    Qcow2 {
        /// The target.
        path: PathBuf,
        /// What the program said.
        source: std::io::Error,
    },
    /// All streams could be read, and give something else than was backed up.
    #[error(
        "The restored disk is not what was backed up: at disk bytes {}..{} the checksum in its sidecar differs. vmstream verify --deep says more",
        wrong.start, wrong.end
    )]
    Wrong {
        /// The first range that differs.
        wrong: Range<u64>,
    },
    /// A raw image that is longer or shorter than it was.
    #[error(
        "{}: {problem}", path.display()
    )]
    RawLength {
        /// The image.
        path: PathBuf,
        /// What its sidecar says.
        problem: SidecarProblem,
    },
    /// A stream that it needs is of something else.
    #[error("{problem}. vmstream verify says more")]
    Misplaced {
        /// What the stream says and what its place needs.
        problem: String,
    },
    /// Nobody can tell whether a stream that it needs is of something else.
    #[error("{problem}. vmstream verify says more")]
    Doubtful {
        /// What contradicts each other.
        problem: String,
    },
    /// A stream that only its checksum could prove is another than was written.
    #[error(
        "The checksum of {} is {found}, {by} says {recorded}: the stream or {by} has changed since the backup",
        path.display()
    )]
    Checksum {
        /// The stream.
        path: PathBuf,
        /// Who says what it must be.
        by: SumOf,
        /// That.
        recorded: u32,
        /// The sum over its bytes.
        found: u32,
    },
    /// The checksum file that alone could prove a stream cannot be used.
    #[error(
        "{} proves nothing: {reason}. Nothing else tells whether {} is as it was written",
        checksum.display(), path.display()
    )]
    NoChecksum {
        /// The stream.
        path: PathBuf,
        /// Its checksum file.
        checksum: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The reader of a pipe, or the file behind it, took no more.
    #[error("Cannot write to the output")]
    Pipe {
        /// What the system said.
        source: std::io::Error,
    },
    /// A block device that was written to before the error. Nothing can bring its old content back.
    #[error("{} was overwritten, in part at least, and holds no good disk: mend the cause and run this again", path.display())]
    Overwritten {
        /// The device.
        path: PathBuf,
        /// What went wrong.
        source: Box<ExtractError>,
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

impl ExtractError {
    /// True when only the check stands in the way: without it, there is an image.
    pub fn is_of_check(&self) -> bool {
        match self {
            Self::Overwritten { source, .. } => source.is_of_check(),
            Self::Wrong { .. }
            | Self::RawLength { .. }
            | Self::Misplaced { .. }
            | Self::Doubtful { .. }
            | Self::Checksum { .. }
            | Self::NoChecksum { .. } => true,
            _ => false,
        }
    }

    /// The error about content that is wrong somewhere.
    pub(super) fn check(checked: &Checked) -> Result<(), Self> {
        checked.wrong.first().map_or(Ok(()), |wrong| Err(Self::Wrong { wrong: wrong.clone() }))
    }

    /// The error about a stream that is of another disk, point or backup than its name and place say, or that may be.
    pub(super) fn check_place(set: &BackupSet, content: &DiskContent<'_>) -> Result<(), Self> {
        let paths: Vec<&Path> = match content {
            DiskContent::Streams(entries) => entries.iter().map(|entry| entry.path.as_path()).collect(),
            DiskContent::Raw { image, .. } => vec![&image.path],
        };
        if let Some(problem) = paths.iter().find_map(|path| set.misplaced(path)) {
            return Err(Self::Misplaced { problem: problem.to_string() });
        }
        let problem = paths.iter().find_map(|path| set.doubtful(path)).map(SetProblem::to_string);
        problem.map_or(Ok(()), |problem| Err(Self::Doubtful { problem }))
    }

    /// The error about a raw image whose length is not that of the disk.
    pub(super) fn check_length(content: &DiskContent<'_>) -> Result<(), Self> {
        let DiskContent::Raw { image, .. } = content else { return Ok(()) };
        let wrong = |problem| Self::RawLength { path: image.path.clone(), problem };
        image.other_length().map_or(Ok(()), |problem| Err(wrong(problem)))
    }
}

/// Writes `disk` as it was at `point` to a new image file or to a block device.
///
/// A file gets its name when all of it is written and durable, never before. Of a larger device only as much as the
/// disk has is written.
///
/// # Errors
/// [`ExtractError`]; nothing is left of an image file then. A device holds parts of old and new content.
pub fn extract(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    let content = set.content(disk, point)?;
    if options.check {
        ExtractError::check_length(&content)?;
        ExtractError::check_place(set, &content)?;
    }
    let (mut tables, mut unused) = content.tables();
    let newest = content.newest_sidecar();
    match &content {
        DiskContent::Streams(entries) => {
            let layers = open_layers(entries, Some(&tables).filter(|_| options.check))?;
            let size = disk_size(&layers);
            let know_all = options.check && tables.know_all(size);
            let summed = match options.check {
                true => Summed::of(entries, (&tables, know_all), &mut unused)?,
                false => Summed::none(),
            };
            let ledger = ledger_of(tables, size, newest, &mut unused);
            let (sizes, checked) = extract_checked(&layers, (ledger, summed), target, options, watch)?;
            Ok(Extracted::new(sizes, point, checked.as_ref(), unused))
        }
        DiskContent::Raw { image, taken } => {
            let ledger = ledger_of(tables, image.len, newest, &mut unused);
            let (written_bytes, checked) = copy_raw(image, ledger, target, options, watch)?;
            Ok(Extracted::new((image.len, written_bytes), *taken, checked.as_ref(), unused))
        }
    }
}

/// What the disk must hold. A sidecar that cannot be read to its end proves nothing, and stands in nobody's way.
fn ledger_of(
    tables: Tables,
    disk_size: u64,
    newest: Option<&Path>,
    unused: &mut Vec<UnusedSidecar>,
) -> Option<Ledger> {
    let ledger = Ledger::of(tables, disk_size);
    ledger.unwrap_or_else(|error| {
        unused.extend(newest.map(|path| UnusedSidecar::new(path, &error)));
        None
    })
}

/// Applies layers, oldest first, to a new image file or to a block device. Returns its size and the bytes written.
///
/// # Errors
/// As [`extract`].
pub fn extract_layers(
    layers: &[Layer],
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<(u64, u64), ExtractError> {
    extract_checked(layers, (None, Summed::none()), target, options, watch).map(|(sizes, _)| sizes)
}

fn extract_checked(
    layers: &[Layer],
    (ledger, summed): (Option<Ledger>, Summed),
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<((u64, u64), Option<Checked>), ExtractError> {
    let units = Units::new(layers);
    let size = units.size();
    let image = target::open(target, size, options, watch)?;
    let (units, proof) = (Mutex::new(Some(units)), ledger.as_ref());
    let job =
        Job { layers, units, ledger: proof, summed: &summed, image: image.as_ref(), target, size, watch };
    let written = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers.get()).map(|_| scope.spawn(|| job.work())).collect();
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        results.into_iter().sum::<Result<u64, ExtractError>>()
    });
    let written = written.and_then(|written| {
        watch.progress(size, size);
        summed.check().map(|()| written)
    });
    let written = written.map_err(|error| with_device(error, image.is_overwritten(), target))?;
    let checked = finish(image, ledger, target, options, watch)?;
    Ok(((size, written), checked))
}

/// Gives the image its name, unless it is wrong or somebody has begun to use what has that name.
fn finish(
    image: Box<dyn Target>,
    ledger: Option<Ledger>,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<Option<Checked>, ExtractError> {
    let checked = ledger.map(Ledger::finish);
    let is_overwritten = image.is_overwritten();
    // Somebody may have opened it meanwhile. A device has the new content already.
    let replaces = options.replace && !image.has_old_content();
    let wrong = checked.as_ref().filter(|_| options.check).map_or(Ok(()), ExtractError::check);
    wrong
        .and_then(|()| image.finish(&|| if replaces { target::ask_free(target, watch) } else { Ok(()) }))
        .map_err(|error| with_device(error, is_overwritten, target))?;
    Ok(checked)
}

/// An error, and what it leaves of a device.
fn with_device(error: ExtractError, is_overwritten: bool, target: &Path) -> ExtractError {
    match is_overwritten {
        true => ExtractError::Overwritten { path: target.to_owned(), source: Box::new(error) },
        false => error,
    }
}

/// What the workers share.
struct Job<'a> {
    layers: &'a [Layer],
    /// `None` once a worker failed: the others stop at their next unit.
    units: Mutex<Option<Units<'a>>>,
    /// What the disk must hold, where that is known.
    ledger: Option<&'a Ledger>,
    summed: &'a Summed,
    image: &'a dyn Target,
    target: &'a Path,
    size: u64,
    watch: &'a dyn Watch,
}

impl<'a> Job<'a> {
    fn work(&self) -> Result<u64, ExtractError> {
        let (mut stored, mut plain, mut written) = (Vec::new(), Vec::new(), 0);
        while let Some(work) = self.next_work()? {
            written += self.apply(&work, &mut stored, &mut plain).inspect_err(|_| self.stop())?;
        }
        Ok(written)
    }

    fn next_work(&self) -> Result<Option<Work>, ExtractError> {
        let mut units = self.lock();
        let Some(source) = units.as_mut() else { return Ok(None) };
        let work = source.next_work();
        self.watch.progress(source.at(), self.size);
        match work.transpose() {
            Ok(work) => Ok(work),
            Err(error) => {
                *units = None;
                Err(error.into())
            }
        }
    }

    fn apply(&self, work: &Work, stored: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<u64, ExtractError> {
        let failed = |source| ExtractError::Write { path: self.target.to_owned(), source };
        let unit = match work {
            Work::Unit(unit) => unit,
            Work::Zero(range) if self.image.has_old_content() => {
                self.image.clear(range.clone()).map_err(failed)?;
                return Ok(0);
            }
            Work::Zero(_) => return Ok(0),
            Work::Tail { layer: number, file } => {
                let layer = &self.layers[*number];
                let sum = self.summed.begin(*number, layer, file.start);
                self.summed.end((*number, layer), file.clone(), sum)?;
                return Ok(0);
            }
        };
        let layer = &self.layers[unit.layer];
        layer
            .stream
            .read_piece(&unit.piece, stored, plain)
            .map_err(|source: StreamError| MapError { path: layer.path.clone(), source })?;
        if let Some(mut sum) = self.summed.begin(unit.layer, layer, unit.file.start) {
            sum.take(&unit.piece, stored_of(&unit.piece, stored, plain), &|_| ())
                .map_err(|source| MapError { path: layer.path.clone(), source })?;
            self.summed.end((unit.layer, layer), unit.file.clone(), Some(sum))?;
        }
        let base = unit.piece.disk.start;
        let mut written = 0;
        for range in &unit.visible {
            let bytes = &plain[(range.start - base) as usize..(range.end - base) as usize];
            if let Some(ledger) = self.ledger {
                ledger.note(range.start, bytes);
            }
            written += self.image.write(range.start, bytes).map_err(failed)?;
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
    ledger: Option<Ledger>,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<(u64, Option<Checked>), ExtractError> {
    let failed = |error| ExtractError::ReadRaw { path: source.path.clone(), source: error };
    let input = regular::open(&source.path).map_err(failed)?;
    let image = target::open(target, source.len, options, watch)?;
    let written = copy_content((source, &input), ledger.as_ref(), (image.as_ref(), target), watch)
        .map_err(|error| with_device(error, image.is_overwritten(), target))?;
    Ok((written, finish(image, ledger, target, options, watch)?))
}

/// Returns the bytes written.
fn copy_content(
    (source, input): (&RawImage, &File),
    ledger: Option<&Ledger>,
    (image, target): (&dyn Target, &Path),
    watch: &dyn Watch,
) -> Result<u64, ExtractError> {
    let failed = |error| ExtractError::ReadRaw { path: source.path.clone(), source: error };
    let write_failed = |source| ExtractError::Write { path: target.to_owned(), source };
    let mut buffer = vec![0; COPY_LEN];
    let (mut at, mut written) = (0, 0);
    while at < source.len {
        let next = next_data(input, at).min(source.len);
        if next > at {
            if image.has_old_content() {
                image.clear(at..next).map_err(write_failed)?;
            }
            at = next;
            continue;
        }
        let len = COPY_LEN.min(usize::try_from(source.len - at).unwrap_or(COPY_LEN));
        input.read_exact_at(&mut buffer[..len], at).map_err(failed)?;
        if let Some(ledger) = ledger {
            ledger.note(at, &buffer[..len]);
        }
        written += image.write(at, &buffer[..len]).map_err(write_failed)?;
        at += len as u64;
        watch.progress(at, source.len);
    }
    Ok(written)
}
