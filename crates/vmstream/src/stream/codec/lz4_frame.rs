//! One LZ4 frame: all of it, or some of its blocks.

use super::compression::CodecError;
use std::io::{self, Read, Write};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The most bytes that the head of a frame has: magic number, flags, content size, dictionary, its own sum.
pub(crate) const MAX_HEAD_LEN: usize = 19;

/// Appends one frame.
pub(super) fn compress(plain: &[u8], level: u32, out: &mut Vec<u8>) -> io::Result<()> {
    // Independent blocks of 256 KiB keep source, result and hash table of a block inside a core's cache.
    let mut encoder = lz4::EncoderBuilder::new()
        .block_size(lz4::BlockSize::Max256KB)
        .block_mode(lz4::BlockMode::Independent)
        .block_checksum(lz4::liblz4::BlockChecksum::BlockChecksumEnabled)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .content_size(plain.len() as u64)
        .auto_flush(true)
        .level(level)
        .build(out)?;
    encoder.write_all(plain)?;
    encoder.finish().1
}

/// Fills `out`, whose length is that of the content, from the one frame in `stored`.
pub(crate) fn decompress(stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
    let stored_len = stored.len();
    let damaged = |source| CodecError::Damaged { stored_len, source };
    let mut decoder = lz4::Decoder::new(stored).map_err(damaged)?;
    let filled = fill(&mut decoder, out).map_err(damaged)?;
    end(decoder, stored_len, (filled, out.len()), |rest| rest.len())
}

/// Checks that a frame ends where its content and its stored bytes do.
fn end<R: Read>(
    mut decoder: lz4::Decoder<R>,
    stored_len: usize,
    (filled, want): (usize, usize),
    rest: impl Fn(R) -> usize,
) -> Result<(), CodecError> {
    // One more read: it verifies the last checksums, and must find no byte.
    let more = decoder.read(&mut [0u8]).map_err(|source| CodecError::Damaged { stored_len, source })?;
    if more > 0 {
        return Err(CodecError::WrongLength { want, found: format!("more than {want}") });
    }
    let (input, ended) = decoder.finish();
    if ended.is_err() {
        return Err(CodecError::CutOff { stored_len });
    }
    if filled < want {
        return Err(CodecError::WrongLength { want, found: filled.to_string() });
    }
    match rest(input) {
        0 => Ok(()),
        extra => Err(CodecError::TrailingBytes { extra }),
    }
}

/// Reads until `out` is full or nothing comes. Returns the bytes that came.
fn fill(input: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match input.read(&mut out[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// What the head of a frame says of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of the head: the first block begins behind it.
    pub(crate) head_len: usize,
    /// The most content bytes of a block. Writers fill every block but the last, as a rule.
    pub(crate) block_len: u64,
    /// No block needs those before it.
    pub(crate) independent: bool,
    /// Each block has a checksum of its stored bytes.
    pub(crate) summed: bool,
}

impl Shape {
    /// Reads the head that these bytes begin with. `None` for anything else, also for a frame that needs a dictionary; the
    /// head's own sum is left to the decoder.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (flags, sizes) = (*rest.first()?, *rest.get(1)?);
        let has = |bit: u8| flags >> bit & 1 == 1;
        let size = sizes >> 4 & 7;
        if flags >> 6 != 1 || has(0) || size < 4 {
            return None;
        }
        let head_len = 7 + if has(3) { 8 } else { 0 };
        let block_len = (64 << 10) << (2 * (size - 4));
        Some(Self { head_len, block_len, independent: has(5), summed: has(4) })
    }

    /// Bytes that a block takes, from the four bytes it begins with; `None` for the end of the frame.
    pub(crate) fn stored_len(&self, size: [u8; 4]) -> Option<u64> {
        let size = u32::from_le_bytes(size);
        let sum_len = if self.summed { 4 } else { 0 };
        (size != 0).then(|| 4 + u64::from(size & 0x7fff_ffff) + sum_len)
    }
}

/// A frame whose content comes from some block on.
pub(crate) struct Part<R> {
    decoder: lz4::Decoder<R>,
    stored_len: usize,
}

impl<R: Read> Part<R> {
    /// `input` begins with the head of a frame, and goes on with any of its blocks that needs none before it.
    pub(crate) fn new(input: R, stored_len: usize) -> Result<Self, CodecError> {
        let decoder =
            lz4::Decoder::new(input).map_err(|source| CodecError::Damaged { stored_len, source })?;
        Ok(Self { decoder, stored_len })
    }

    /// Fills `out` as far as there is content. Of the last block that it takes from, the sum may not have been looked at.
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> Result<usize, CodecError> {
        let stored_len = self.stored_len;
        fill(&mut self.decoder, out).map_err(|source| CodecError::Damaged { stored_len, source })
    }

    /// Goes on for so many bytes of content, which nobody wants: the blocks before them have been held against their sums then.
    pub(crate) fn pass_over(&mut self, len: u64) -> Result<u64, CodecError> {
        let mut room = vec![0; len as usize];
        self.fill(&mut room).map(|count| count as u64)
    }

    /// Checks that the frame ends here, all of its content having come.
    pub(crate) fn end(self, content_len: usize) -> Result<(), CodecError> {
        end(self.decoder, self.stored_len, (content_len, content_len), |_| 0)
    }
}
