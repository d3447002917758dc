//! Where the records of one kind lie in a sidecar: those of one place of the disk are read without the others.

use super::reader::{Record, START_LEN, Sidecar, SidecarError};
use std::marker::PhantomData;
use std::sync::Arc;

/// A sidecar's chunks of one kind, by where the first record of each begins. 16 bytes for each chunk; records are read when
/// they are asked for.
#[derive(Debug)]
pub(crate) struct Directory<R> {
    sidecar: Arc<Sidecar>,
    places: Vec<Place>,
    kind: PhantomData<fn() -> R>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the chunk, in the file.
    at: u64,
    /// What its first record begins with: an offset on the disk, or the number of a granule.
    first: u64,
}

impl<R: Record> Directory<R> {
    /// Walks the heads of a sidecar's chunks. The sidecar was [checked](Sidecar::check): its records are in order.
    pub(crate) fn of(sidecar: Arc<Sidecar>) -> Result<Self, SidecarError> {
        let (mut at, mut places) = (START_LEN, Vec::new());
        while let Some(chunk) = sidecar.chunk_at(at)? {
            if chunk.kind == R::CHUNK && chunk.len > 0 {
                let first = u64::from_le_bytes(sidecar.begin_of(&chunk)?);
                places.push(Place { at, first });
            }
            at = chunk.end();
        }
        Ok(Self { sidecar, places, kind: PhantomData })
    }

    /// Of what it tells where things lie.
    pub(crate) fn sidecar(&self) -> &Arc<Sidecar> {
        &self.sidecar
    }

    /// How many chunks there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The last chunk that begins at or before this.
    pub(crate) fn chunk_of(&self, place: u64) -> Option<usize> {
        self.places.partition_point(|chunk| chunk.first <= place).checked_sub(1)
    }

    /// The records of a chunk, held against its checksum.
    pub(crate) fn records(&self, number: usize) -> Result<Vec<R>, SidecarError> {
        let Some(Place { at, .. }) = self.places.get(number).copied() else { return Ok(Vec::new()) };
        let wrong = || SidecarError::Record { at };
        let chunk = self.sidecar.chunk_at(at)?.filter(|chunk| chunk.kind == R::CHUNK).ok_or_else(wrong)?;
        let payload = self.sidecar.payload(&chunk)?;
        R::read(&payload, &mut (0, 0), self.sidecar.head()).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::sidecar::{Block, Run};
    use std::path::Path;

    #[test]
    fn chunks_of_a_kind_that_nobody_knows_are_passed_over() {
        let vector =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../format-spec/vectors/sidecars/mixed-chunks.idx");
        let open = || Arc::new(Sidecar::open(Path::new(vector)).unwrap());
        let sidecar = open();
        let blocks: Vec<Block> = sidecar.blocks().map(Result::unwrap).collect();
        let directory = Directory::<Block>::of(open()).unwrap();
        let chunks: Vec<_> = blocks.iter().map(|block| directory.chunk_of(block.start)).collect();
        assert_eq!(chunks, (0..blocks.len()).map(Some).collect::<Vec<_>>());
        let records = (0..directory.len()).flat_map(|number| directory.records(number).unwrap());
        assert_eq!(records.collect::<Vec<_>>(), blocks);
        assert_eq!(Directory::<Run>::of(open()).unwrap().len(), 2);
    }
}
