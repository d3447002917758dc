//! A stream's two ends held against each other, without a walk over its frames: for a quick look at many files.

use super::error::{Problem, StreamError, TrailerMismatch};
use super::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, HEADER, LINE_END};
use super::reader::StreamFile;
use super::trailer::{TrailerEntry, TrailerParser};
use std::io::BufReader;

/// Bytes around the payload of a data frame.
const DATA_FRAME: u64 = HEADER + LINE_END;

impl StreamFile {
    /// Checks that the stream is ended by a `stop` frame and, for a compressed one, a trailer that can be read, and that
    /// frames of the promised lengths fill the file.
    ///
    /// Reads the trailer and one header. A file that was cut off or grew does not pass; a flipped byte between the
    /// ends does.
    ///
    /// # Errors
    /// [`StreamError`] for the first thing that does not fit.
    pub fn check_ends(&self) -> Result<(), StreamError> {
        let frames_end = self.trailer().map_or(self.file_len(), |place| place.at);
        let damaged = |at, problem: Problem| Err(StreamError::damaged(None, at, None, problem));
        let Some(stop_at) = frames_end.checked_sub(HEADER).filter(|at| *at >= self.frames_at()) else {
            return damaged(
                frames_end,
                Problem::CutOff { want: HEADER, have: frames_end - self.frames_at() },
            );
        };
        match FrameHeader::parse(&self.input().array::<FRAME_HEADER_LEN>(stop_at)?) {
            Ok(FrameHeader { kind: FrameKind::Stop, start: 0, len: 0 }) => {}
            Ok(FrameHeader { kind, .. }) => return damaged(stop_at, Problem::Misplaced { kind }),
            Err(error) => return damaged(stop_at, Problem::Header(error)),
        }
        let room = stop_at - self.frames_at();
        let data_size = self.meta().data_size;
        let fits = match self.trailer() {
            None if data_size == 0 => room % HEADER == 0,
            // Any even number is a sum of data frames' and zero frames' headers, from a few hundred bytes on.
            None => room.checked_sub(data_size).is_some_and(|rest| rest >= DATA_FRAME && rest % 2 == 0),
            Some(place) => {
                let (mut stored, mut count) = (0u64, 0u64);
                let input = BufReader::with_capacity(64 << 10, self.input().section(place.at, place.len));
                let mut entries = TrailerParser::new(input, self.file_len());
                loop {
                    let entry = match entries.next_entry() {
                        Err(problem) => return damaged(place.at, Problem::Trailer(problem)),
                        Ok(None) => break,
                        Ok(Some(entry)) => entry,
                    };
                    let len = match entry {
                        TrailerEntry::Plain(len) => Some(len),
                        pieces => pieces.stored_len(),
                    };
                    stored = stored.saturating_add(len.unwrap_or(u64::MAX));
                    count += 1;
                }
                let frames = stored.saturating_add(count.saturating_mul(DATA_FRAME));
                if count > data_size || count == 0 && data_size > 0 {
                    let mismatch =
                        if count > data_size { TrailerMismatch::TooMany } else { TrailerMismatch::TooFew };
                    return damaged(place.at, Problem::TrailerMismatch(mismatch));
                }
                room.checked_sub(frames).is_some_and(|zeros| zeros % HEADER == 0)
            }
        };
        if fits { Ok(()) } else { damaged(self.frames_at(), Problem::Lengths { room }) }
    }
}
