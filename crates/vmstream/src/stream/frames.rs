//! The walk over a stream's frames: one header after the other, each checked before it is believed.

use super::codec::MAX_PIECE_LEN;
use super::error::{Problem, StreamError, TrailerMismatch};
use super::frame::{CRLF, FRAME_HEADER_LEN, FrameHeader, FrameKind, HEADER, LINE_END};
use super::meta::StreamMeta;
use super::piece::{Coding, Frame, Stored};
use super::positioned::{Positioned, Section, TrailerPlace};
use super::trailer::{TrailerEntry, TrailerParser};
use std::io::BufReader;

/// Iterator over the frames of a [`StreamFile`](super::reader::StreamFile).
#[derive(Debug)]
pub struct Frames<'a> {
    input: Positioned<'a>,
    virtual_size: u64,
    data_size: u64,
    trailer: Option<(TrailerPlace, TrailerParser<BufReader<Section<'a>>>)>,
    /// First file offset that cannot belong to a payload.
    frames_end: u64,
    at: u64,
    index: u64,
    disk_at: u64,
    data_sum: u64,
    done: bool,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(
        input: Positioned<'a>,
        meta: &StreamMeta,
        at: u64,
        trailer: Option<TrailerPlace>,
    ) -> Self {
        let frames_end = trailer.map_or(input.file_len, |place| place.at);
        let trailer = trailer.map(|place| {
            let section = input.section(place.at, place.len);
            (place, TrailerParser::new(BufReader::with_capacity(64 << 10, section), input.file_len))
        });
        Self {
            input,
            virtual_size: meta.virtual_size,
            data_size: meta.data_size,
            trailer,
            frames_end,
            at,
            index: 0,
            disk_at: 0,
            data_sum: 0,
            done: false,
        }
    }

    /// Disk offset up to which the walk has come: after an error, content from here on is unknown.
    pub fn disk_at(&self) -> u64 {
        self.disk_at
    }

    fn step(&mut self) -> Result<Option<Frame>, StreamError> {
        let header_at = self.at;
        let bytes = self.input.array::<FRAME_HEADER_LEN>(header_at).map_err(|error| self.lost(error))?;
        let header = FrameHeader::parse(&bytes)
            .map_err(|problem| self.damaged(header_at, Problem::Header(problem)))?;
        if header_at + HEADER > self.frames_end {
            return Err(self.damaged(header_at, Problem::Misplaced { kind: header.kind }));
        }
        match header.kind {
            FrameKind::Stop => return self.stop(&header).map(|()| None),
            FrameKind::Meta | FrameKind::Comp => {
                return Err(self.damaged(header_at, Problem::Misplaced { kind: header.kind }));
            }
            FrameKind::Data | FrameKind::Zero => self.check_range(&header)?,
        }
        let stored_at = header_at + HEADER;
        self.at = stored_at;
        let mut stored = Stored::Plain;
        if header.kind == FrameKind::Data {
            stored = self.stored_form(&header)?;
            self.skip_payload(&header, &stored)?;
            self.data_sum += header.len;
        }
        let frame = Frame { index: self.index, header, stored_at, stored };
        self.index += 1;
        self.disk_at = frame.disk().end;
        Ok(Some(frame))
    }

    fn check_range(&self, header: &FrameHeader) -> Result<(), StreamError> {
        let problem = if header.len == 0 {
            Problem::Empty
        } else if header.start < self.disk_at {
            Problem::OutOfOrder { start: header.start, end: self.disk_at }
        } else if header.end().is_none_or(|end| end > self.virtual_size) {
            Problem::PastDisk { len: header.len, virtual_size: self.virtual_size }
        } else {
            return Ok(());
        };
        Err(self.damaged(self.at, problem))
    }

    /// Takes the next trailer entry and holds it against the frame.
    fn stored_form(&mut self, header: &FrameHeader) -> Result<Stored, StreamError> {
        let Some((place, parser)) = &mut self.trailer else { return Ok(Stored::Plain) };
        let TrailerPlace { at, coding, .. } = *place;
        let entry = match parser.next_entry() {
            Err(problem) => return Err(self.damaged(at, Problem::Trailer(problem))),
            Ok(None) => return Err(self.damaged(at, Problem::TrailerMismatch(TrailerMismatch::TooFew))),
            Ok(Some(entry)) => entry,
        };
        let pieces = match entry {
            TrailerEntry::Plain(len) if header.len < MAX_PIECE_LEN => vec![len],
            // A zstd stream has no frames of that length.
            TrailerEntry::Pieces(lens)
                if coding == Coding::Lz4
                    && header.len >= MAX_PIECE_LEN
                    && lens.len() as u64 == header.len.div_ceil(MAX_PIECE_LEN) =>
            {
                lens
            }
            _ => return Err(self.damaged(at, Problem::TrailerMismatch(TrailerMismatch::Form))),
        };
        let mut left = header.len;
        for &stored_len in &pieces {
            let plain_len = left.min(MAX_PIECE_LEN);
            left -= plain_len;
            if !coding.allows(stored_len, plain_len) {
                let problem = TrailerMismatch::StoredLen { stored_len, plain_len };
                return Err(self.damaged(at, Problem::TrailerMismatch(problem)));
            }
        }
        Ok(Stored::Compressed { coding, pieces })
    }

    /// Moves behind the payload and its line end.
    fn skip_payload(&mut self, header: &FrameHeader, stored: &Stored) -> Result<(), StreamError> {
        let want = match stored {
            Stored::Plain => header.len,
            // Cannot overflow: the parser keeps the sum within the file's length.
            Stored::Compressed { pieces, .. } => pieces.iter().sum(),
        };
        let have = self.frames_end.saturating_sub(self.at);
        let whole = want.saturating_add(LINE_END);
        if whole > have {
            return Err(self.damaged(self.at, Problem::CutOff { want: whole, have }));
        }
        let line_end_at = self.at + want;
        if &self.input.array::<{ CRLF.len() }>(line_end_at).map_err(|error| self.lost(error))? != CRLF {
            return Err(self.damaged(line_end_at, Problem::NoLineEnd { after: "the frame's content" }));
        }
        self.at = line_end_at + LINE_END;
        Ok(())
    }

    fn stop(&mut self, header: &FrameHeader) -> Result<(), StreamError> {
        let stop_at = self.at;
        let outside = |at, problem| Err(StreamError::damaged(None, at, None, problem));
        if header.start != 0 || header.len != 0 {
            let problem = Problem::NotZero { kind: header.kind, start: header.start, len: header.len };
            return outside(stop_at, problem);
        }
        let end = stop_at + HEADER;
        if end != self.frames_end {
            return outside(end, Problem::BytesAfterEnd { extra: self.frames_end - end });
        }
        if let Some((place, parser)) = &mut self.trailer {
            match parser.next_entry() {
                Ok(None) => {}
                Ok(Some(_)) => {
                    return outside(place.at, Problem::TrailerMismatch(TrailerMismatch::TooMany));
                }
                Err(problem) => return outside(place.at, Problem::Trailer(problem)),
            }
        }
        if self.data_sum != self.data_size {
            // The meta text stands right behind the first header.
            let problem = Problem::DataSize { found: self.data_sum, want: self.data_size };
            return outside(HEADER, problem);
        }
        Ok(())
    }

    fn damaged(&self, at: u64, problem: Problem) -> StreamError {
        let disk = (self.disk_at < self.virtual_size).then_some(self.disk_at..self.virtual_size);
        StreamError::damaged(Some(self.index), at, disk, problem)
    }

    /// Adds what is lost to an error that does not know it.
    fn lost(&self, error: StreamError) -> StreamError {
        match error {
            StreamError::Damaged(damage) => self.damaged(damage.at, damage.problem),
            error @ StreamError::Read { .. } => error,
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}
