//! A disk that is a plain image: held against the granules of its sidecar, where it has one.

use super::error::DiskError;
use super::options::{DiskOptions, Proof};
use super::shelf::Shelf;
use crate::blob::Blob;
use crate::chain::PointId;
use crate::sidecar::{Directory, Granules, Run, Sidecar, SidecarError, Value};
use bytes::Bytes;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an image that are asked for together whether they are a hole.
const STEP: u64 = 1 << 20;

/// An image, and what is known of it.
#[derive(Debug)]
pub(super) struct RawDisk {
    pub(super) path: PathBuf,
    pub(super) taken: PointId,
    image: Box<dyn Blob>,
    size: u64,
    known: Option<Directory<Run>>,
    runs: Shelf<usize, Arc<[Run]>>,
    granules: Shelf<u64, Bytes>,
    read: AtomicU64,
}

impl RawDisk {
    pub(super) fn new(
        (path, taken): (PathBuf, PointId),
        (image, size): (Box<dyn Blob>, u64),
        sidecar: Option<Sidecar>,
        options: DiskOptions,
    ) -> Result<Self, SidecarError> {
        let sidecar = sidecar.filter(|sidecar| sidecar.head().granules.disk_size() == size);
        Ok(Self {
            path,
            taken,
            image,
            size,
            known: sidecar.map(Directory::of).transpose()?,
            runs: Shelf::new(options.index_bytes),
            granules: Shelf::new(options.content_bytes),
            read: AtomicU64::new(0),
        })
    }

    pub(super) fn decoded(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// A range from `at` on that is all hole, or all content; it may go on behind.
    pub(super) fn extent(&self, at: u64, end: u64) -> (Range<u64>, bool) {
        let next = self.image.next_data(at).min(end);
        if next > at { (at..next, false) } else { (at..end.min(at + STEP), true) }
    }

    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<Proof, DiskError> {
        let end = offset + out.len() as u64;
        let Some(known) = &self.known else {
            self.fill(offset, out)?;
            return Ok(Proof::Unproven);
        };
        let granules = known.sidecar().head().granules;
        let (mut at, mut proof) = (offset, Proof::Proven);
        while at < end {
            let number = at / granules.size();
            let granule = granules.range(number);
            let upto = granule.end.min(end);
            let out = &mut out[(at - offset) as usize..(upto - offset) as usize];
            match self.value(known, granules, number)? {
                Value::Unknown => {
                    self.fill(at, out)?;
                    proof = Proof::Unproven;
                }
                Value::Known(sum) if at == granule.start && upto == granule.end => {
                    self.fill(at, out)?;
                    self.hold(&granule, sum, out)?;
                }
                Value::Known(sum) => {
                    let bytes = self.granules.or_read(number, || {
                        let mut bytes = vec![0; (granule.end - granule.start) as usize];
                        self.fill(granule.start, &mut bytes)?;
                        self.hold(&granule, sum, &bytes)?;
                        let len = bytes.len();
                        Ok((Bytes::from(bytes), len))
                    })?;
                    out.copy_from_slice(
                        &bytes[(at - granule.start) as usize..(upto - granule.start) as usize],
                    );
                }
            }
            at = upto;
        }
        Ok(proof)
    }

    fn fill(&self, at: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.read.fetch_add(out.len() as u64, Ordering::Relaxed);
        let disk = at..(at + out.len() as u64).min(self.size);
        let failed = |source| DiskError::Raw { disk, path: self.path.clone(), source };
        self.image.read_exact_at(at, out).map_err(failed)
    }

    fn hold(&self, granule: &Range<u64>, sum: u32, bytes: &[u8]) -> Result<(), DiskError> {
        if crc32fast::hash(bytes) == sum {
            return Ok(());
        }
        Err(DiskError::RawContent { disk: granule.clone(), point: self.taken, path: self.path.clone() })
    }

    /// What the sidecar knows of a granule.
    fn value(&self, known: &Directory<Run>, granules: Granules, number: u64) -> Result<Value, DiskError> {
        let (mut from, mut to) = (0, known.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if known.first(middle).is_some_and(|first| first <= number) {
                from = middle + 1
            } else {
                to = middle
            }
        }
        let Some(chunk) = from.checked_sub(1) else { return Ok(Value::Unknown) };
        let runs = self.runs.or_read(chunk, || {
            let failed = |source| DiskError::RawSidecar { path: self.path.clone(), source };
            let runs: Arc<[Run]> = known.records(chunk).map_err(failed)?.into();
            let bytes: u64 = runs.iter().map(|run| size_of::<Run>() as u64 + 4 * run.sums()).sum();
            Ok((runs, bytes as usize))
        })?;
        let place = runs.partition_point(|run| run.numbers().end <= number);
        let run = runs.get(place).filter(|run| run.numbers().contains(&number));
        Ok(run.map_or(Value::Unknown, |run| run.value(number, granules)))
    }
}
