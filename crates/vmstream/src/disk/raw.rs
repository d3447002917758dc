//! A disk that is a plain image: held against the granules of its sidecar, where it has one.

use super::error::DiskError;
use super::known::{Known, RunShelf};
use super::options::{DiskOptions, Proof};
use super::shelf::Shelf;
use crate::blob::Blob;
use crate::chain::PointId;
use crate::sidecar::{Sidecar, SidecarError, Value};
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
    known: Option<Known>,
    runs: RunShelf,
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
            known: sidecar.map(|sidecar| Known::of(0, Arc::new(sidecar))).transpose()?,
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
        let mut proof = Proof::Proven;
        for granule in known.touched(&(offset..end), &self.runs) {
            let failed = |source| DiskError::RawSidecar { path: self.path.clone(), source };
            let (granule, value) = granule.map_err(failed)?;
            let (at, upto) = (granule.start.max(offset), granule.end.min(end));
            let out = &mut out[(at - offset) as usize..(upto - offset) as usize];
            match value {
                Value::Unknown => {
                    self.fill(at, out)?;
                    proof = Proof::Unproven;
                }
                Value::Known(sum) if at == granule.start && upto == granule.end => {
                    self.fill(at, out)?;
                    self.hold(&granule, sum, out)?;
                }
                Value::Known(sum) => {
                    let bytes = self.granules.or_read(granule.start, || {
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
}
