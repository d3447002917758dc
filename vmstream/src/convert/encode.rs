//! Disk content as frames that a writer only has to append, made by any thread.

use super::ConvertOptions;
use crate::stream::codec::{self, CodecError};
use crate::stream::meta::{STREAM_VERSION, StreamMeta};
use crate::stream::writer::StreamWriter;
use std::io;
use std::ops::Range;

/// How the content of streams is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// As LZ4 frames of this level: 1 and 2 are fast, 3 to 16 denser.
    Lz4(u32),
}

impl Compression {
    /// Says in a meta text how the content is stored, in the form of today.
    pub(super) fn describe(self, meta: &mut StreamMeta) {
        meta.stream_version = STREAM_VERSION;
        meta.compression = match self {
            Self::None => None,
            Self::Lz4(level) => Some(level),
        };
        meta.compression_method = "lz4".to_owned();
    }
}

/// Frames in disk order.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// Disk ranges, those of data with their place in `stored`.
    frames: Vec<(Range<u64>, Option<Range<usize>>)>,
    stored: Vec<u8>,
}

impl Encoded {
    /// Empties it, keeping its memory.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.stored.clear();
    }

    pub(super) fn zero(&mut self, disk: Range<u64>) {
        self.frames.push((disk, None));
    }

    /// Adds content as frames of at most the options' length.
    pub(super) fn data(
        &mut self,
        start: u64,
        plain: &[u8],
        options: ConvertOptions,
    ) -> Result<(), CodecError> {
        let mut at = start;
        for part in plain.chunks(options.frame_len as usize) {
            let before = self.stored.len();
            match options.compression {
                Compression::None => self.stored.extend_from_slice(part),
                Compression::Lz4(level) => {
                    codec::compress(part, level, &mut self.stored)?;
                }
            }
            let end = at + part.len() as u64;
            self.frames.push((at..end, Some(before..self.stored.len())));
            at = end;
        }
        Ok(())
    }

    /// Each frame's disk range, and the stored bytes of those that hold data.
    pub(super) fn frames(&self) -> impl Iterator<Item = (Range<u64>, Option<&[u8]>)> {
        self.frames
            .iter()
            .map(|(disk, stored)| (disk.clone(), stored.clone().map(|place| &self.stored[place])))
    }
}

/// Appends a frame.
pub(super) fn append(writer: &mut StreamWriter, disk: Range<u64>, stored: Option<&[u8]>) -> io::Result<()> {
    let len = disk.end - disk.start;
    match stored {
        Some(stored) => writer.data(disk.start, len, stored),
        None => writer.zero(disk.start, len),
    }
}
