//! A part of an LZ4 piece, decoded without the rest of it where its blocks allow that, and held against their checksums.
//!
//! Must not live here: who wants which part, and what is kept of it (`disk`).

use super::codec::{MAX_HEAD_LEN, Part, Shape};
use super::error::{Problem, StreamError};
use super::frame::LINE_END;
use super::piece::{Coding, Piece};
use super::reader::StreamFile;
use bytes::Bytes;
use std::io::Read;
use std::ops::Range;

/// Content bytes that are handed out together, counted from the piece's beginning; its last unit may be shorter. A block of
/// what this program writes.
pub(crate) const UNIT_LEN: u64 = 256 << 10;

/// Neighbouring units of a piece, decoded and proven.
#[derive(Debug, Default)]
pub(crate) struct Units {
    /// Number of the first one.
    pub(crate) first: u64,
    /// Each in memory of its own, so that one that is kept keeps no other.
    pub(crate) bytes: Vec<Bytes>,
    /// Content bytes that had to be decoded for them.
    pub(crate) decoded: u64,
}

impl StreamFile {
    /// Decodes the units of an LZ4 piece that a range of its content touches, and those around them that come for nothing.
    ///
    /// Where blocks are independent only those that are wanted are decoded; of linked ones all up to the end of the range,
    /// and one more. Nothing is handed out before the checksums of its blocks: where a frame has none, all of it is
    /// decoded and its one checksum counts.
    ///
    /// # Errors
    /// As [`StreamFile::read_piece`].
    pub(crate) fn read_units(&self, piece: &Piece, want: Range<u64>) -> Result<Units, StreamError> {
        let content_len = self.check_piece(piece)?;
        let damaged = |problem| piece.damaged(Problem::Codec(problem));
        let mut head = vec![0; MAX_HEAD_LEN.min(piece.stored_len as usize)];
        self.input().fill(piece.stored_at, &mut head)?;
        let found = match Shape::parse(&head).filter(|shape| shape.summed && piece.coding == Coding::Lz4) {
            None => None,
            Some(shape) if shape.independent => {
                head.truncate(shape.head_len);
                self.independent(piece, &head, shape, want)?
            }
            Some(shape) => {
                let input = self.section(piece.stored_at, piece.stored_len);
                let mut part = Part::new(input, piece.stored_len as usize).map_err(damaged)?;
                let end = want.end.next_multiple_of(UNIT_LEN).min(content_len);
                let units = take(&mut part, 0..end).map_err(damaged)?;
                match units {
                    // Sums stand behind their blocks: those of the last unit are behind it once a whole block has come.
                    Some(mut units) if end < content_len => {
                        let more = part.pass_over(shape.block_len.min(content_len - end)).map_err(damaged)?;
                        units.decoded += more;
                        Some(units)
                    }
                    Some(units) => {
                        part.end(content_len as usize).map_err(damaged)?;
                        Some(units)
                    }
                    None => None,
                }
            }
        };
        found.map_or_else(|| self.all_units(piece), Ok)
    }

    /// The units of a piece that is decoded whole.
    fn all_units(&self, piece: &Piece) -> Result<Units, StreamError> {
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        self.read_piece(piece, &mut stored, &mut plain)?;
        let bytes = plain.chunks(UNIT_LEN as usize).map(Bytes::copy_from_slice).collect();
        Ok(Units { first: 0, bytes, decoded: plain.len() as u64 })
    }

    /// `None` when the blocks are not filled as writers do it: where content lies in them is not known then.
    fn independent(
        &self,
        piece: &Piece,
        head: &[u8],
        shape: Shape,
        want: Range<u64>,
    ) -> Result<Option<Units>, StreamError> {
        let content_len = piece.disk.end - piece.disk.start;
        let count = content_len.div_ceil(shape.block_len);
        let Some(places) = self.blocks(piece, &shape, count)? else { return Ok(None) };
        let step = shape.block_len.max(UNIT_LEN);
        let start = want.start / step * step;
        let end = want.end.next_multiple_of(step).min(content_len);
        let blocks = start / shape.block_len..end.div_ceil(shape.block_len);
        let decode = |blocks: Range<u64>, content: Range<u64>| {
            let stored = places[blocks.start as usize].start..places[blocks.end as usize - 1].end;
            let mut bytes = head.to_vec();
            bytes.resize(head.len() + (stored.end - stored.start) as usize, 0);
            self.input().fill(stored.start, &mut bytes[head.len()..])?;
            let mut lost = piece.clone();
            lost.disk = piece.disk.start + content.start..piece.disk.start + content.end;
            let damaged = |problem| lost.damaged(Problem::Codec(problem));
            let mut part = Part::new(&bytes[..], bytes.len()).map_err(damaged)?;
            let units = take(&mut part, content).map_err(damaged)?;
            // The sum of the last block stands behind it, and nothing does behind that.
            let more = part.pass_over(1).map_err(damaged)?;
            Ok(units.filter(|_| more == 0))
        };
        let units = decode(blocks.clone(), start..end)?;
        // So many blocks hold so much content only if all are full but for a last one that holds the rest.
        let rest = (count - 1) * shape.block_len..content_len;
        let is_full = rest.end - rest.start == shape.block_len || blocks.end == count;
        match units {
            Some(units) if is_full => Ok(Some(units)),
            Some(mut units) => {
                let last = decode(count - 1..count, rest)?;
                units.decoded += last.as_ref().map_or(0, |last| last.decoded);
                Ok(last.map(|_| units))
            }
            None => Ok(None),
        }
    }

    /// Where each block of a frame of independent ones lies in the file, if there are so many and nothing is between them and
    /// the frame's end.
    fn blocks(
        &self,
        piece: &Piece,
        shape: &Shape,
        count: u64,
    ) -> Result<Option<Vec<Range<u64>>>, StreamError> {
        let end = piece.stored_at + piece.stored_len;
        let (mut at, mut places) =
            (piece.stored_at + shape.head_len as u64, Vec::with_capacity(count as usize));
        loop {
            if at + 4 > end {
                return Ok(None);
            }
            match shape.stored_len(self.input().array(at)?) {
                None => return Ok((places.len() as u64 == count).then_some(places)),
                Some(len) if places.len() as u64 == count || at + len > end => return Ok(None),
                Some(len) => {
                    places.push(at..at + len);
                    at += len;
                }
            }
        }
    }

    /// Fills `out` with content of an uncompressed piece from `at` of it on. Nothing here proves it.
    pub(crate) fn read_plain(&self, piece: &Piece, at: u64, out: &mut [u8]) -> Result<(), StreamError> {
        self.input().fits(piece.stored_at, piece.stored_len + LINE_END)?;
        self.input().fill(piece.stored_at + at, out)
    }
}

/// Takes so much content as units; `None` when less comes.
fn take<R: Read>(part: &mut Part<R>, content: Range<u64>) -> Result<Option<Units>, super::codec::CodecError> {
    let mut units = Units { first: content.start / UNIT_LEN, ..Units::default() };
    let mut at = content.start;
    while at < content.end {
        let len = UNIT_LEN.min(content.end - at);
        let mut bytes = vec![0; len as usize];
        if part.fill(&mut bytes)? < bytes.len() {
            return Ok(None);
        }
        units.bytes.push(bytes.into());
        units.decoded += len;
        at += len;
    }
    Ok(Some(units))
}
