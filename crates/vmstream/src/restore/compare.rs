//! A disk at a point held against an image: where they differ.

use super::content::{Content, OnWrong};
use super::error::ExtractError;
use super::extracted::Watch;
use super::nbd::{Nbd, SECTOR};
use super::window::Window;
use super::zeros::is_zero;
use crate::blob::next_data;
use crate::chain::{BackupSet, DiskTarget, PointId, UnusedSidecar};
use crate::sidecar::Checked;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// Bytes of the image read at once.
const READ_LEN: u64 = 1 << 20;

/// The most differing ranges that are kept.
pub const MAX_RANGES: usize = 1000;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of the image's disk.
    pub image_size: u64,
    /// The image is a block device: it may be longer, and what lies behind the disk is not looked at.
    pub is_device: bool,
    /// When the content was taken. Earlier than asked for when the disk is raw.
    pub taken: PointId,
    /// Bytes in sectors that differ, as far as both reach, and in what an image file has more if that is not zero.
    pub different_bytes: u64,
    /// Where, in order: the first [`MAX_RANGES`] ranges.
    pub ranges: Vec<Range<u64>>,
    /// How the backup's side compares with its sidecars; `None` when there are none.
    pub checked: Option<Checked>,
    /// Sidecars that say nothing of it.
    pub unused_sidecars: Vec<UnusedSidecar>,
}

impl Compared {
    /// True when both hold the same. An image may be longer up to a full sector, all zero, because qcow2 counts in
    /// sectors; a block device by any length, because it has the size that it has.
    pub fn is_same(&self) -> bool {
        let sizes = self.image_size == self.size
            || Some(self.image_size) == self.size.checked_next_multiple_of(SECTOR)
            || self.rest_bytes() > 0;
        sizes && self.different_bytes == 0
    }

    /// Bytes of a device behind the disk's end, which nobody looked at.
    pub fn rest_bytes(&self) -> u64 {
        if self.is_device { self.image_size.saturating_sub(self.size) } else { 0 }
    }

    fn add(&mut self, range: Range<u64>) {
        self.different_bytes += range.end - range.start;
        let room = self.ranges.len() < MAX_RANGES;
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if room => self.ranges.push(range),
            _ => {}
        }
    }
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The disk cannot be put together.
    #[error(transparent)]
    Disk(#[from] ExtractError),
    /// The image cannot be read.
    #[error("Cannot read the image {}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What the system, or qemu-nbd, said.
        source: io::Error,
    },
    /// A program is needed for this kind of image.
    #[error("{} is a qcow2 image: reading it needs the program qemu-nbd, which is not installed", path.display())]
    NoQemu {
        /// The image.
        path: PathBuf,
    },
}

/// How the bytes of an image lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// As its first bytes say.
    Detect,
    /// As they are.
    Raw,
    /// qcow2, read by `qemu-nbd`.
    Qcow2,
}

/// Compares `disk` as it was at `point` with an image, all of it, on so many threads.
///
/// # Errors
/// [`CompareError`] when one of the two cannot be read to its end. A difference is no error.
pub fn compare(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    (path, format): (&Path, ImageFormat),
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> Result<Compared, CompareError> {
    let failed = |source| CompareError::Image { path: path.to_owned(), source };
    let place = set.content(disk, point).map_err(ExtractError::Set)?;
    ExtractError::check_length(&place)?;
    ExtractError::check_place(set, &place)?;
    let content = Content::open(set, disk, point, OnWrong::Note)?;
    let image = Image::open(path, format, workers)?;
    let size = content.size;
    let mut found = Compared {
        size,
        image_size: image.size,
        is_device: image.is_device,
        taken: content.taken,
        different_bytes: 0,
        ranges: Vec::new(),
        checked: None,
        unused_sidecars: content.unused_sidecars.clone(),
    };
    let look = |window: &Window| {
        let range = window.disk.start..window.disk.end.min(image.size).max(window.disk.start);
        let want = if window.is_blank() { None } else { Some(&window.bytes[..]) };
        // The outer result is the disk's, the inner one the image's.
        Ok(image.differences(range, want))
    };
    let mut broken = None;
    let checked = content.read(workers, look, |window, ranges| {
        watch.progress(window.disk.end, size);
        match ranges {
            Ok(ranges) => ranges.into_iter().for_each(|range| found.add(range)),
            Err(error) => broken = broken.take().or(Some(error)),
        }
        Ok(())
    })?;
    found.checked = checked;
    if let Some(error) = broken {
        return Err(failed(error));
    }
    let end = if image.is_device { size } else { image.size };
    let mut at = size;
    while at < end {
        let part = at..end.min(at + READ_LEN);
        at = part.end;
        image.differences(part, None).map_err(failed)?.into_iter().for_each(|range| found.add(range));
    }
    Ok(found)
}

/// An image that any thread may read.
#[derive(Debug)]
struct Image {
    size: u64,
    is_device: bool,
    source: ImageSource,
}

#[derive(Debug)]
enum ImageSource {
    Raw(File),
    Qcow2(Nbd),
}

impl Image {
    fn open(path: &Path, format: ImageFormat, workers: NonZeroUsize) -> Result<Self, CompareError> {
        let failed = |source| CompareError::Image { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        // The length of a block device too, which its attributes do not tell.
        let size = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
        let mut magic = [0; 4];
        let is_qcow2 = match format {
            ImageFormat::Raw => false,
            ImageFormat::Qcow2 => true,
            ImageFormat::Detect => file.read_exact_at(&mut magic, 0).is_ok() && &magic == b"QFI\xfb",
        };
        if !is_qcow2 {
            let is_device = file.metadata().is_ok_and(|about| about.file_type().is_block_device());
            return Ok(Self { size, is_device, source: ImageSource::Raw(file) });
        }
        let nbd = Nbd::serve(path, "qcow2", workers.get() + 1);
        let nbd = nbd.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CompareError::NoQemu { path: path.to_owned() },
            _ => failed(source),
        })?;
        Ok(Self { size: nbd.size(), is_device: false, source: ImageSource::Qcow2(nbd) })
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.source {
            ImageSource::Raw(file) => file.read_exact_at(out, at),
            ImageSource::Qcow2(nbd) => nbd.read_at(at, out),
        }
    }

    /// Where content begins at or behind `at`, where the file system can tell.
    fn next_content(&self, at: u64) -> u64 {
        let ImageSource::Raw(file) = &self.source else { return at };
        next_data(file, at, self.size)
    }

    /// Sectors of `range` that are not as `want`, or not zero.
    fn differences(&self, range: Range<u64>, want: Option<&[u8]>) -> io::Result<Vec<Range<u64>>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut buffer = vec![0; READ_LEN.min(range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end {
            if want.is_none() {
                at = self.next_content(at);
                if at >= range.end {
                    break;
                }
            }
            let len = READ_LEN.min(range.end - at) as usize;
            let bytes = &mut buffer[..len];
            self.read_at(at, bytes)?;
            let want = want.map(|want| &want[(at - range.start) as usize..][..len]);
            if want.is_some_and(|want| want != bytes) || want.is_none() && !is_zero(bytes) {
                sectors(at, bytes, want, &mut found);
            }
            at += len as u64;
        }
        Ok(found)
    }
}

/// Tells differences in whole sectors.
fn sectors(at: u64, bytes: &[u8], want: Option<&[u8]>, found: &mut Vec<Range<u64>>) {
    for (number, sector) in bytes.chunks(SECTOR as usize).enumerate() {
        let from = number * SECTOR as usize;
        let same = want.map_or_else(|| is_zero(sector), |want| &want[from..from + sector.len()] == sector);
        if same {
            continue;
        }
        let start = at + from as u64;
        let end = start + sector.len() as u64;
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
    }
}
