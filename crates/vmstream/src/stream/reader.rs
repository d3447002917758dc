//! One stream file, read by position: meta first, trailer from the end, frames by their headers.
//!
//! Opening and walking read no payload. Nothing here trusts a length before it fits into the file and the disk.

use super::codec::{self, Compression, MAX_PIECE_LEN};
use super::error::{Problem, StreamError, TrailerMismatch};
use super::frame::{CRLF, FRAME_HEADER_LEN, FrameHeader, FrameKind, HEADER, LINE_END};
use super::frames::Frames;
use super::meta::{MAX_META_LEN, StreamMeta};
use super::piece::{Coding, Piece};
use super::positioned::{Positioned, TrailerPlace};
use crate::blob::Blob;
use crate::pooled::Pooled;
use std::io::Read;
use std::path::Path;

/// An open stream file: its meta text was read, its frames were not yet.
///
/// Reads by position, so any number of threads may share it.
#[derive(Debug)]
pub struct StreamFile {
    file: Box<dyn Blob>,
    file_len: u64,
    meta: StreamMeta,
    meta_len: u64,
    trailer: Option<TrailerPlace>,
}

impl StreamFile {
    /// Opens a stream and reads its meta text; for a compressed one, finds the trailer.
    ///
    /// # Errors
    /// [`StreamError::Read`] when the file cannot be opened or read, [`StreamError::Damaged`] when it is no stream
    /// or ends differently from one.
    pub fn open(path: &Path) -> Result<Self, StreamError> {
        let read_failed = |source| StreamError::Read { at: 0, len: HEADER, source };
        Self::from_blob(Box::new(Pooled::open(path).map_err(read_failed)?))
    }

    /// The same of a file that is kept elsewhere.
    ///
    /// # Errors
    /// As [`StreamFile::open`].
    pub fn from_blob(file: Box<dyn Blob>) -> Result<Self, StreamError> {
        let file_len = file.size();
        let input = Positioned { file: &*file, file_len };
        let not_a_stream = |source| StreamError::damaged(None, 0, None, Problem::NotAStream { source });
        if file_len < HEADER {
            return Err(not_a_stream(None));
        }
        let bytes = input.array::<FRAME_HEADER_LEN>(0)?;
        let header = FrameHeader::parse(&bytes).map_err(|source| not_a_stream(Some(source)))?;
        if header.kind != FrameKind::Meta || header.start != 0 {
            return Err(not_a_stream(None));
        }
        if header.len > MAX_META_LEN {
            return Err(StreamError::damaged(None, 22, None, Problem::MetaTooLong { len: header.len }));
        }
        let mut json = vec![0; input.fits(HEADER, header.len + LINE_END)? as usize];
        input.fill(HEADER, &mut json)?;
        if !json.ends_with(CRLF) {
            let problem = Problem::NoLineEnd { after: "the meta text" };
            return Err(StreamError::damaged(None, HEADER + header.len, None, problem));
        }
        json.truncate(json.len() - CRLF.len());
        let meta = StreamMeta::parse(&json)
            .map_err(|problem| StreamError::damaged(None, HEADER, None, Problem::Meta(problem)))?;
        let frames_at = HEADER + header.len + LINE_END;
        let trailer = find_trailer(&input, &meta, frames_at)?;
        Ok(Self { file, file_len, meta, meta_len: header.len, trailer })
    }

    /// What the stream says about itself.
    pub fn meta(&self) -> &StreamMeta {
        &self.meta
    }

    /// True for a stream that only keeps the place of a disk that did not exist: one that stands alone and says
    /// nothing of any byte. The full of an empty disk has zero frames, or data; an increment without frames has a
    /// parent.
    ///
    /// Its `virtualSize` is the size the disk has later: the oldest readers make the image by their first stream.
    pub fn is_placeholder(&self) -> bool {
        let meta = &self.meta;
        meta.data_size == 0 && !meta.incremental && self.frames().next().is_none()
    }

    /// True when the meta text ends with blanks: its writer reserved room and filled it in later.
    pub fn has_reserved_meta(&self) -> bool {
        const END: &[u8; 3] = b" \n}";
        let at = HEADER + self.meta_len.saturating_sub(END.len() as u64);
        self.input().array::<{ END.len() }>(at).is_ok_and(|end| &end == END)
    }

    /// Bytes of the file when it was opened.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// True when payloads are compressed. Stands in the meta text, except where that says level 0.
    pub fn is_compressed(&self) -> bool {
        self.trailer.is_some()
    }

    /// How payloads are stored.
    pub fn coding(&self) -> Coding {
        self.trailer.map_or(Coding::Plain, |place| place.coding)
    }

    /// Walks all frames from the first, reading headers and trailer only, in memory that does not grow.
    ///
    /// Ends after the first error. A walk that ends without one has checked: every header and line end, order and
    /// bounds, the trailer against the frames, `dataSize`, and that the file ends where the stream does.
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(self.input(), &self.meta, self.frames_at(), self.trailer)
    }

    /// Reads the content of one piece into `out`, which is cut or grown to the piece's length.
    ///
    /// `stored` is room for the stored form; its content means nothing before and after. Both are bounded by
    /// [`MAX_PIECE_LEN`] and a little.
    ///
    /// # Errors
    /// [`StreamError::Damaged`] with the piece's disk range when it does not decode; uncompressed content is
    /// covered by the file's checksum alone.
    pub fn read_piece(
        &self,
        piece: &Piece,
        stored: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let plain_len = self.check_piece(piece)?;
        out.resize(plain_len as usize, 0);
        self.read_piece_into(piece, stored, out)
    }

    /// [`StreamFile::read_piece`] into room that has the piece's length.
    pub(crate) fn read_piece_into(
        &self,
        piece: &Piece,
        stored: &mut Vec<u8>,
        out: &mut [u8],
    ) -> Result<(), StreamError> {
        self.check_piece(piece)?;
        match piece.coding {
            Coding::Plain => self.input().fill(piece.stored_at, out)?,
            Coding::Lz4 | Coding::Zstd => {
                stored.resize(piece.stored_len as usize, 0);
                self.input().fill(piece.stored_at, stored)?;
                let decoded = match piece.coding {
                    Coding::Zstd => codec::decode_zstd(stored, out),
                    _ => codec::decode_lz4(stored, out),
                };
                decoded.map_err(|problem| piece.damaged(Problem::Codec(problem)))?;
            }
        }
        match piece.plain_crc32 {
            Some(sum) if crc32fast::hash(out) != sum => Err(piece.damaged(Problem::OtherContent)),
            _ => Ok(()),
        }
    }

    /// The piece's length, once it is sure that it may be allocated and that its stored bytes are in the file.
    pub(super) fn check_piece(&self, piece: &Piece) -> Result<u64, StreamError> {
        let plain_len = piece.disk.end - piece.disk.start;
        self.input().fits(piece.stored_at, piece.stored_len)?;
        if plain_len > MAX_PIECE_LEN || !piece.coding.allows(piece.stored_len, plain_len) {
            let problem = TrailerMismatch::StoredLen { stored_len: piece.stored_len, plain_len };
            return Err(piece.damaged(Problem::TrailerMismatch(problem)));
        }
        Ok(plain_len)
    }

    /// The number of the data frame whose payload has the file's byte at `at`, where the frames up to there can be walked.
    pub(crate) fn frame_at(&self, at: u64) -> Option<u64> {
        let upto = self.frames().map_while(Result::ok).take_while(|frame| frame.stored_at <= at);
        upto.filter(|frame| frame.header.kind == FrameKind::Data).last().map(|frame| frame.index)
    }

    /// A part of the file's bytes, cut at the file's end. For checksums.
    pub fn section(&self, at: u64, len: u64) -> impl Read + '_ {
        self.input().section(at, len)
    }

    pub(super) fn trailer(&self) -> Option<TrailerPlace> {
        self.trailer
    }

    /// Where the first frame behind the meta frame begins.
    pub(crate) fn frames_at(&self) -> u64 {
        HEADER + self.meta_len + LINE_END
    }

    pub(super) fn input(&self) -> Positioned<'_> {
        Positioned { file: &*self.file, file_len: self.file_len }
    }
}

/// Looks for `… CR LF comp 0 LENGTH CR LF` at the end of the file.
fn find_trailer(
    input: &Positioned<'_>,
    meta: &StreamMeta,
    frames_at: u64,
) -> Result<Option<TrailerPlace>, StreamError> {
    let Some(compression) = meta.compression else { return Ok(None) };
    // Python takes level 0 for "not compressed" in some places and not in others: the file decides.
    let unclear = compression == Compression::Lz4(0);
    let missing = |at, problem| Err(StreamError::damaged(None, at, None, Problem::TrailerMismatch(problem)));
    // The shortest end of a compressed stream: stop header, [], line end, comp header.
    let Some(comp_at) =
        input.file_len.checked_sub(HEADER).filter(|at| *at >= frames_at + HEADER + 2 + LINE_END)
    else {
        return if unclear { Ok(None) } else { missing(input.file_len, TrailerMismatch::Missing) };
    };
    let header = FrameHeader::parse(&input.array::<FRAME_HEADER_LEN>(comp_at)?);
    let header = match header {
        Ok(header) if header.kind == FrameKind::Comp => header,
        _ if unclear => return Ok(None),
        _ => return missing(comp_at, TrailerMismatch::Missing),
    };
    if header.start != 0 {
        let problem = Problem::NotZero { kind: header.kind, start: header.start, len: 0 };
        return Err(StreamError::damaged(None, comp_at, None, problem));
    }
    if &input.array::<{ CRLF.len() }>(comp_at - LINE_END)? != CRLF {
        let problem = Problem::NoLineEnd { after: "the trailer" };
        return Err(StreamError::damaged(None, comp_at - LINE_END, None, problem));
    }
    let room = comp_at - LINE_END - frames_at - HEADER;
    if header.len > room {
        let problem = Problem::CutOff { want: header.len, have: room };
        return Err(StreamError::damaged(None, comp_at, None, problem));
    }
    let coding = match compression {
        Compression::Lz4(_) => Coding::Lz4,
        Compression::Zstd(_) => Coding::Zstd,
    };
    Ok(Some(TrailerPlace { at: comp_at - LINE_END - header.len, len: header.len, coding }))
}
