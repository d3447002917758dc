//! A stream and its sidecar, written together.

use super::granule::Granules;
use super::record::{Block, Run};
use super::sums::{PlainSums, StoredSums};
use super::writer::SidecarWriter;
use crate::stream::StreamMeta;
use crate::stream::writer::{FinishedStream, StreamWriter};
use std::io;
use std::path::Path;

/// A stream under construction, with its sidecar.
///
/// Frames are what the stream stores, content is what the disk holds. Mostly both come together; where they do not,
/// each is told on its own. Both come in disk order.
pub struct Recorder {
    stream: StreamWriter,
    sidecar: SidecarWriter,
}

impl Recorder {
    /// Creates both files. `meta` is as for [`StreamWriter::create`].
    pub fn create(stream: &Path, sidecar: &Path, meta: StreamMeta) -> io::Result<Self> {
        let sidecar = SidecarWriter::create(sidecar, Granules::of_disk(meta.virtual_size))?;
        Ok(Self { stream: StreamWriter::create(stream, meta)?, sidecar })
    }

    /// Takes both, before anything was written to either.
    pub fn new(stream: StreamWriter, sidecar: SidecarWriter) -> Self {
        Self { stream, sidecar }
    }

    /// How the disk is cut, for [`PlainSums::of`].
    pub fn granules(&self) -> Granules {
        self.sidecar.granules()
    }

    /// Bytes of data in the stream so far.
    pub fn data_size(&self) -> u64 {
        self.stream.data_size()
    }

    /// Appends a data frame of one block, whose content the disk holds. An uncompressed one has 4 MiB at most.
    pub fn data(
        &mut self,
        start: u64,
        plain_len: u64,
        stored: &[u8],
        (plain_sums, stored_sums): (&PlainSums, &StoredSums),
    ) -> io::Result<()> {
        self.frame(start, plain_len, stored, (plain_sums, stored_sums))?;
        self.sidecar.data(start, plain_len, plain_sums)
    }

    /// Appends a data frame of one block, and says nothing about the disk's content.
    pub fn frame(
        &mut self,
        start: u64,
        plain_len: u64,
        stored: &[u8],
        (plain_sums, stored_sums): (&PlainSums, &StoredSums),
    ) -> io::Result<()> {
        let stored_at = self.stream.data_with_sums(start, plain_len, stored, stored_sums)?;
        let place = (stored_at, stored.len() as u64);
        let block = Block::new((start, plain_len), place, plain_sums, stored_sums);
        self.sidecar.block(&block.ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Appends a zero frame, and says nothing about the disk's content.
    pub fn zero_frame(&mut self, start: u64, len: u64) -> io::Result<()> {
        self.stream.zero(start, len)
    }

    /// Notes that the disk is zero there, and appends nothing to the stream.
    pub fn zero_content(&mut self, start: u64, len: u64) -> io::Result<()> {
        self.sidecar.zero(start, len)
    }

    /// Notes what is known of the disk's content, or that nothing is, and appends nothing to the stream. Nothing else may
    /// tell of it then.
    pub fn run(&mut self, run: &Run) -> io::Result<()> {
        self.sidecar.run(run)
    }

    /// Ends the stream. The sidecar still needs its head.
    pub fn finish(self) -> io::Result<(FinishedStream, SidecarWriter)> {
        Ok((self.stream.finish()?, self.sidecar))
    }
}
