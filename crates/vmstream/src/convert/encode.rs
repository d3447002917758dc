//! Disk content as frames that a writer only has to append, with all their checksums, made by any thread.

use super::options::ConvertOptions;
use crate::sidecar::{Granules, PlainSums, Recorder, StoredSums};
use crate::stream::codec::{self, CodecError};
use std::io;
use std::ops::Range;

/// How frames are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    pub(super) options: ConvertOptions,
    pub(super) granules: Granules,
}

/// What frames say about the disk's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// Nothing: somebody else does, or nobody can.
    Nothing,
    /// What data frames hold.
    Data,
    /// That, and that it is zero where zero frames are.
    All,
}

/// A frame to append.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) disk: Range<u64>,
    /// `None` for a zero frame.
    pub(super) data: Option<Stored<'a>>,
}

#[derive(Debug)]
pub(super) struct Stored<'a> {
    bytes: &'a [u8],
    sums: &'a (PlainSums, StoredSums),
}

impl Frame<'_> {
    pub(super) fn append(&self, recorder: &mut Recorder, tell: Tell) -> io::Result<()> {
        let (start, len) = (self.disk.start, self.disk.end - self.disk.start);
        match &self.data {
            Some(Stored { bytes, sums: (plain, stored) }) if tell == Tell::Nothing => {
                recorder.frame(start, len, bytes, (plain, stored))
            }
            Some(Stored { bytes, sums: (plain, stored) }) => {
                recorder.data(start, len, bytes, (plain, stored))
            }
            None => {
                recorder.zero_frame(start, len)?;
                if tell == Tell::All { recorder.zero_content(start, len) } else { Ok(()) }
            }
        }
    }
}

/// A place in the stored bytes, and their sums.
type Place = (Range<usize>, (PlainSums, StoredSums));

/// Frames in disk order.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// Disk ranges, those of data with what is stored.
    frames: Vec<(Range<u64>, Option<Place>)>,
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
    pub(super) fn data(&mut self, start: u64, plain: &[u8], encoding: Encoding) -> Result<(), CodecError> {
        let Encoding { options, granules } = encoding;
        let mut at = start;
        for part in plain.chunks(options.frame_len as usize) {
            let before = self.stored.len();
            match options.compression.of_stream() {
                None => self.stored.extend_from_slice(part),
                Some(compression) => drop(codec::compress(part, compression, &mut self.stored)?),
            }
            let place = before..self.stored.len();
            let sums = (PlainSums::of(at, part, granules), StoredSums::of(&self.stored[place.clone()]));
            let end = at + part.len() as u64;
            self.frames.push((at..end, Some((place, sums))));
            at = end;
        }
        Ok(())
    }

    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|(disk, data)| {
            let stored =
                data.as_ref().map(|(place, sums)| Stored { bytes: &self.stored[place.clone()], sums });
            Frame { disk: disk.clone(), data: stored }
        })
    }
}
