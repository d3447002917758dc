//! The streams that a new one is made of: open, read once, and held against their checksum files and sidecars.

use super::contents::NewStream;
use super::error::ConvertError;
use crate::chain::{StreamEntry, UnusedSidecar};
use crate::restore::{Layer, MapError};
use crate::sidecar::Sidecar;
use crate::stream::{StreamError, StreamMeta};
use crate::verify::recorded;
use std::path::Path;

/// Streams of one disk, oldest first; at least one.
pub(super) struct Source<'a> {
    pub(super) layers: Vec<Layer>,
    entries: &'a [&'a StreamEntry],
    in_doubt: bool,
}

impl<'a> Source<'a> {
    pub(super) fn open(stream: &'a NewStream<'_>) -> Result<Self, ConvertError> {
        let entries = &stream.sources[..];
        let layers = entries.iter().map(|entry| Layer::open(entry.path.clone())).collect::<Result<_, _>>()?;
        Ok(Self { layers, entries, in_doubt: stream.in_doubt })
    }

    /// What the newest stream says about itself.
    pub(super) fn newest(&self) -> &StreamMeta {
        self.layers[self.layers.len() - 1].stream.meta()
    }

    /// Each stream's sidecar, where it has one that counts.
    pub(super) fn sidecars(&self) -> Vec<Option<Sidecar>> {
        let counts = |entry: &&StreamEntry| if self.in_doubt { None } else { entry.whole_sidecar()?.ok() };
        self.entries.iter().map(counts).collect()
    }

    /// Says which stream an error is about.
    pub(super) fn failed(&self, layer: usize, source: StreamError) -> ConvertError {
        MapError { path: self.layers[layer].path.clone(), source }.into()
    }

    /// Holds the sums over every byte against the checksum files. Returns the names of streams that nothing proves, and
    /// adds the sidecars that prove nothing.
    pub(super) fn check(
        &self,
        sums: &[u32],
        unused: &mut Vec<UnusedSidecar>,
    ) -> Result<Vec<String>, ConvertError> {
        let mut unproven = Vec::new();
        for ((entry, layer), &found) in self.entries.iter().zip(&self.layers).zip(sums) {
            let sidecar = entry.usable_sidecar(unused);
            let listed = sidecar.and_then(|sidecar| sidecar.head().stream.adler32);
            let recorded = match &entry.checksum {
                // What the sidecar says too is right, whatever became of the checksum file.
                Some(_) if listed == Some(found) => listed,
                Some(path) => Some(read_checksum(path)?),
                None => listed,
            };
            match recorded {
                Some(recorded) if recorded == found => {}
                Some(recorded) => {
                    return Err(ConvertError::Checksum { path: entry.path.clone(), recorded, found });
                }
                None if layer.stream.meta().data_size == 0 => {}
                None => {
                    unproven.extend(entry.path.file_name().map(|name| name.to_string_lossy().into_owned()));
                }
            }
        }
        Ok(unproven)
    }
}

fn read_checksum(path: &Path) -> Result<u32, ConvertError> {
    recorded(path)
        .map_err(|finding| ConvertError::ChecksumFile { path: path.to_owned(), message: finding.message })
}
