//! The checksums of streams held against what is read, where nothing else proves the disk: any part of the file, on any
//! thread.
//!
//! A stream of virtnbdbackup's usual form is uncompressed, with a checksum file: without this a flipped bit of it would be
//! given out as the disk. A stream with a sidecar is summed too unless the newest sidecar tells what all of the disk must
//! hold: neither its blocks nor its compression cover the headers of its frames.

use super::error::{ExtractError, SumOf};
use super::map::{Layer, MapError};
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, StreamEntry, UnusedSidecar};
use crate::sidecar::Tables;
use crate::stream::checksum::{self, Adler32, combine};
use crate::stream::running::RunningSum;
use crate::stream::{Coding, Piece};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The sums of the streams that are summed, part by part.
#[derive(Debug)]
pub(crate) struct Summed {
    layers: Vec<Option<FileSum>>,
}

/// What is known of a stream's sum so far.
#[derive(Debug, Default)]
struct FileSum {
    wanted: Option<Wanted>,
    /// Parts by where they begin: their end and sum. No two touch.
    parts: Mutex<BTreeMap<u64, (u64, u32)>>,
}

/// What a checksum file or a sidecar says.
#[derive(Debug)]
struct Wanted {
    recorded: u32,
    by: SumOf,
    path: PathBuf,
}

impl Summed {
    /// The streams of `entries` that have a checksum, their sidecar's or that of a checksum file. Those with a sidecar in
    /// `tables` are left out where that is said to know all that matters. Checksum files that are none are added to what
    /// is not used.
    ///
    /// # Errors
    /// [`ExtractError::NoChecksum`] for such a checksum file of a stream that nothing else proves.
    pub(crate) fn of(
        entries: &[&StreamEntry],
        (tables, know_all): (&Tables, bool),
        unused: &mut Vec<UnusedSidecar>,
    ) -> Result<Self, ExtractError> {
        let mut of_entry = |(number, entry): (usize, &&StreamEntry)| {
            let (recorded, by) = match tables.adler32_of(number) {
                _ if know_all && tables.have(number) => return Ok(None),
                Some(sum) => (sum, SumOf::Sidecar),
                None => {
                    let Some(checksum) = entry.checksum.as_deref() else { return Ok(None) };
                    let path = checksum.to_owned();
                    let is_plain = entry.meta.as_ref().is_ok_and(|meta| meta.compression.is_none());
                    match recorded(checksum) {
                        Ok(recorded) => (recorded, SumOf::ChecksumFile),
                        Err(reason) if is_plain && !tables.have(number) => {
                            let (path, checksum) = (entry.path.clone(), path);
                            return Err(ExtractError::NoChecksum { path, checksum, reason });
                        }
                        Err(reason) => {
                            unused.push(UnusedSidecar { path, reason });
                            return Ok(None);
                        }
                    }
                }
            };
            let wanted = Some(Wanted { recorded, by, path: entry.path.clone() });
            Ok(Some(FileSum { wanted, ..FileSum::default() }))
        };
        let layers = entries.iter().enumerate().map(&mut of_entry).collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    fn wants(&self, number: usize) -> bool {
        self.layers.get(number).is_some_and(Option::is_some)
    }

    /// All of so many streams are summed, for somebody who knows what to make of it.
    pub(crate) fn all(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| Some(FileSum::default())).collect() }
    }

    /// No stream is summed.
    pub(crate) fn none() -> Self {
        Self { layers: Vec::new() }
    }

    /// The sum of what comes next of a layer's file, if that is wanted.
    pub(crate) fn begin<'a>(&self, number: usize, layer: &'a Layer, at: u64) -> Option<RunningSum<'a>> {
        self.layers.get(number)?.as_ref().map(|_| RunningSum::new(&layer.stream, at))
    }

    /// Takes a part of a layer's file, of which `sum` has what was read; the rest of it is read here, and `read` told.
    pub(crate) fn end(
        &self,
        (number, layer): (usize, &Layer),
        file: Range<u64>,
        sum: Option<RunningSum<'_>>,
        read: &dyn Fn(u64),
    ) -> Result<(), MapError> {
        let Some(mut sum) = sum.filter(|_| !file.is_empty()) else { return Ok(()) };
        sum.upto(file.end, read).map_err(|source| MapError { path: layer.path.clone(), source })?;
        if let Some(Some(of_file)) = self.layers.get(number) {
            of_file.add(file, sum.finish());
        }
        Ok(())
    }

    /// Holds the sums against the checksum files, once every byte has come.
    ///
    /// # Errors
    /// [`ExtractError::Checksum`] for the first stream whose sum is another.
    pub(crate) fn check(self) -> Result<(), ExtractError> {
        self.layers.into_iter().flatten().try_for_each(|of_file| {
            let found = of_file.found();
            match of_file.wanted {
                Some(Wanted { recorded, by, path }) if found != recorded => {
                    Err(ExtractError::Checksum { path, by, recorded, found })
                }
                _ => Ok(()),
            }
        })
    }

    /// The sum of each stream, once every byte has come; of one that is not summed that of no bytes.
    pub(crate) fn found(&self) -> Vec<u32> {
        let of_file = |of_file: &Option<FileSum>| of_file.as_ref().map_or_else(none, FileSum::found);
        self.layers.iter().map(of_file).collect()
    }
}

fn recorded(checksum: &Path) -> Result<u32, String> {
    let read = checksum::read_file(checksum).map_err(|error| error.to_string())?;
    read.ok_or_else(|| "it does not hold a number".to_owned())
}

/// Asks whether the streams of a disk at a point belong there, reads those that a checksum file alone proves, and holds them against it: for whoever reads no
/// more than their headers. `read` hears the bytes read.
///
/// # Errors
/// [`ExtractError::Misplaced`] or [`ExtractError::Doubtful`] for one that is of another backup, or may be,
/// [`ExtractError::RawLength`] for an image of another length than its disk, [`ExtractError::Checksum`] for the first
/// stream that differs, [`MapError`] for one that cannot be read.
pub fn check_streams(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    read: &dyn Fn(u64),
) -> Result<Vec<UnusedSidecar>, ExtractError> {
    let content = set.content(disk, point)?;
    ExtractError::check_length(&content)?;
    ExtractError::check_place(set, &content)?;
    let (tables, mut unused) = content.tables();
    let DiskContent::Streams(entries) = &content else { return Ok(unused) };
    let layers =
        entries.iter().map(|entry| Layer::open(entry.path.clone())).collect::<Result<Vec<_>, _>>()?;
    sum_layers(entries, &layers, (&tables, &mut unused), read)?;
    Ok(unused)
}

/// Reads the streams that a checksum file alone proves, and holds them against it. Tells of each stream whether sidecar or
/// checksum file prove it now.
///
/// # Errors
/// As [`check_streams`].
pub(crate) fn sum_layers(
    entries: &[&StreamEntry],
    layers: &[Layer],
    (tables, unused): (&Tables, &mut Vec<UnusedSidecar>),
    read: &dyn Fn(u64),
) -> Result<Vec<bool>, ExtractError> {
    let summed = Summed::of(entries, (tables, true), unused)?;
    for (number, layer) in layers.iter().enumerate().filter(|(number, _)| summed.wants(*number)) {
        let (len, mut sum) = (layer.stream.file_len(), RunningSum::new(&layer.stream, 0));
        sum.upto(len, read).map_err(|source| MapError { path: layer.path.clone(), source })?;
        summed.end((number, layer), 0..len, Some(sum), read)?;
    }
    let proven = (0..layers.len()).map(|number| tables.have(number) || summed.wants(number)).collect();
    summed.check().map(|()| proven)
}

/// The sum of no bytes.
fn none() -> u32 {
    Adler32::new().finish()
}

impl FileSum {
    fn found(&self) -> u32 {
        self.lock().get(&0).map_or_else(none, |(_, sum)| *sum)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, u32)>> {
        // Whoever panics with the lock held has changed nothing by half.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a part with those that it touches, so that few are kept.
    fn add(&self, file: Range<u64>, sum: u32) {
        let (Range { mut start, mut end }, mut sum) = (file, sum);
        let mut parts = self.lock();
        if let Some((next_end, next)) = parts.remove(&end) {
            sum = combine(sum, next, next_end - end);
            end = next_end;
        }
        if let Some((&before, &(before_end, before_sum))) = parts.range(..start).next_back() {
            if before_end == start {
                sum = combine(before_sum, sum, end - start);
                start = before;
            }
        }
        parts.insert(start, (end, sum));
    }
}

/// The stored bytes of a piece that was just read.
pub(crate) fn stored_of<'a>(piece: &Piece, stored: &'a [u8], plain: &'a [u8]) -> &'a [u8] {
    if piece.coding == Coding::Plain { plain } else { stored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_give_the_sum_of_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|at| (at * 7 / 3) as u8).collect();
        let cuts = [0, 1, 40, 41, 1000, 1042, 4000, 5000];
        let ranges: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        for turn in 0..ranges.len() {
            for stride in [1, 3, 5] {
                let sum = FileSum::default();
                for step in 0..ranges.len() {
                    let range = ranges[(turn + step * stride) % ranges.len()].clone();
                    sum.add(range.start as u64..range.end as u64, checksum::adler32(&bytes[range]));
                }
                let parts = sum.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
                assert_eq!(parts.into_iter().collect::<Vec<_>>(), [(0, (5000, checksum::adler32(&bytes)))]);
            }
        }
    }
}
