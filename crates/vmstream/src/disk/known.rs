//! What a sidecar knows of a disk's granules: each found by its number, read where it is asked.

use super::shelf::Shelf;
use crate::sidecar::{Directory, Granules, Run, Sidecar, SidecarError, Value};
use std::ops::Range;
use std::sync::Arc;

/// Runs of sidecars that are kept: by layer, and number of the chunk.
pub(super) type RunShelf = Shelf<(u32, usize), Arc<[Run]>>;

/// The granules of one sidecar.
#[derive(Debug)]
pub(super) struct Known {
    layer: u32,
    directory: Directory<Run>,
}

impl Known {
    /// Those of a layer's sidecar.
    pub(super) fn of(layer: u32, sidecar: Arc<Sidecar>) -> Result<Self, SidecarError> {
        Ok(Self { layer, directory: Directory::of(sidecar)? })
    }

    /// The granules that a range of the disk touches: where each lies, and what is known of it.
    pub(super) fn touched<'a>(
        &'a self,
        disk: &Range<u64>,
        shelf: &'a RunShelf,
    ) -> impl Iterator<Item = Result<(Range<u64>, Value), SidecarError>> + 'a {
        let granules = self.directory.sidecar().head().granules;
        let of_number = move |number| Ok((granules.range(number), self.value(granules, number, shelf)?));
        granules.touched(disk).map(of_number)
    }

    fn value(&self, granules: Granules, number: u64, shelf: &RunShelf) -> Result<Value, SidecarError> {
        let Some(chunk) = self.directory.chunk_of(number) else { return Ok(Value::Unknown) };
        let runs = shelf.or_read((self.layer, chunk), || {
            let runs: Arc<[Run]> = self.directory.records(chunk)?.into();
            let bytes: u64 = runs.iter().map(|run| size_of::<Run>() as u64 + 4 * run.sums()).sum();
            Ok::<_, SidecarError>((runs, bytes as usize))
        })?;
        let place = runs.partition_point(|run| run.numbers().end <= number);
        let run = runs.get(place).filter(|run| run.numbers().contains(&number));
        Ok(run.map_or(Value::Unknown, |run| run.value(number, granules)))
    }
}
