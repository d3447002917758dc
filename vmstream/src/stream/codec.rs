//! One stored piece: a standard LZ4 frame with a checksum for each of its blocks.
//!
//! The blocks' checksums cover every stored byte. The frame's checksum over the content, which other writers add and
//! this reader verifies, would say the same once more, for a third of the time that compressing takes.
//!
//! Must not live here: where a piece lies in a file or on a disk.

use std::io::{Read, Write};

/// The most plain bytes that one stored piece may hold: the NBD maximum request size.
///
/// Readers choose the form of a trailer entry by it, so it is part of the format.
pub const MAX_PIECE_LEN: u64 = 33_554_432;

/// Why a piece could not be written or read back.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The LZ4 library refused to compress.
    #[error("Cannot compress {plain_len} bytes with LZ4 at level {level}")]
    Compress {
        /// Bytes given.
        plain_len: usize,
        /// Level asked for.
        level: u32,
        /// What the library said.
        source: std::io::Error,
    },
    /// More plain bytes asked for than a piece can hold.
    #[error("A piece of {plain_len} bytes is larger than the format allows ({MAX_PIECE_LEN})")]
    TooLarge {
        /// Bytes asked for.
        plain_len: usize,
    },
    /// The bytes are no LZ4 frame, or a checksum inside it does not fit.
    #[error("The LZ4 frame of {stored_len} bytes is damaged")]
    Damaged {
        /// Bytes stored.
        stored_len: usize,
        /// What the library said.
        source: std::io::Error,
    },
    /// The frame is whole, but holds another number of bytes.
    #[error("The LZ4 frame holds {found} bytes where {want} belong")]
    WrongLength {
        /// Bytes the frame header on disk promises.
        want: usize,
        /// `fewer than` or `more than`, with the count that is certain.
        found: String,
    },
    /// The frame ends before the stored bytes do.
    #[error("The LZ4 frame ends {extra} bytes before its place in the stream does")]
    TrailingBytes {
        /// Stored bytes left over.
        extra: usize,
    },
    /// The stored bytes end in the middle of the frame.
    #[error("The LZ4 frame of {stored_len} bytes is cut off")]
    CutOff {
        /// Bytes stored.
        stored_len: usize,
    },
}

/// Appends `plain` to `out` as one LZ4 frame and returns the bytes added.
///
/// Levels 0 to 2 are fast, 3 to 12 slow and denser (higher ones count as 12).
///
/// # Errors
/// [`CodecError::TooLarge`] past [`MAX_PIECE_LEN`]; [`CodecError::Compress`] when the library has no memory.
pub fn compress(plain: &[u8], level: u32, out: &mut Vec<u8>) -> Result<usize, CodecError> {
    if plain.len() as u64 > MAX_PIECE_LEN {
        return Err(CodecError::TooLarge { plain_len: plain.len() });
    }
    let failed = |source| CodecError::Compress { plain_len: plain.len(), level, source };
    let before = out.len();
    // Independent blocks of 256 KiB keep source, result and hash table of a block inside a core's cache.
    let mut encoder = lz4::EncoderBuilder::new()
        .block_size(lz4::BlockSize::Max256KB)
        .block_mode(lz4::BlockMode::Independent)
        .block_checksum(lz4::liblz4::BlockChecksum::BlockChecksumEnabled)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .content_size(plain.len() as u64)
        .auto_flush(true)
        .level(level)
        .build(&mut *out)
        .map_err(failed)?;
    encoder.write_all(plain).map_err(failed)?;
    encoder.finish().1.map_err(failed)?;
    Ok(out.len() - before)
}

/// Replaces `out` by the `plain_len` bytes of the one LZ4 frame in `stored`.
///
/// Allocates `plain_len` bytes and no more, whatever the frame claims. Reuse `out`: its memory is kept.
/// After an error its content means nothing.
///
/// # Errors
/// [`CodecError`], when the frame is damaged, cut off, holds more or fewer bytes, or is followed by others.
pub fn decompress(stored: &[u8], plain_len: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if plain_len as u64 > MAX_PIECE_LEN {
        return Err(CodecError::TooLarge { plain_len });
    }
    let damaged = |source| CodecError::Damaged { stored_len: stored.len(), source };
    out.resize(plain_len, 0);
    let mut decoder = lz4::Decoder::new(stored).map_err(damaged)?;
    let mut filled = 0;
    while filled < plain_len {
        match decoder.read(&mut out[filled..]).map_err(damaged)? {
            0 => break,
            count => filled += count,
        }
    }
    // One more read: it verifies the content checksum, and must find no byte.
    let more = decoder.read(&mut [0u8]).map_err(damaged)?;
    if more > 0 {
        return Err(CodecError::WrongLength { want: plain_len, found: format!("more than {plain_len}") });
    }
    let (rest, ended) = decoder.finish();
    if ended.is_err() {
        return Err(CodecError::CutOff { stored_len: stored.len() });
    }
    if filled < plain_len {
        return Err(CodecError::WrongLength { want: plain_len, found: filled.to_string() });
    }
    if !rest.is_empty() {
        return Err(CodecError::TrailingBytes { extra: rest.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 7 * 3)) as u8).collect()
    }

    #[test]
    fn every_size_and_level_comes_back() {
        for len in [1, 511, 65536, 262_144, 262_145, 2 << 20] {
            for level in [0, 1, 2, 4, 9, 16] {
                let plain = sample(len);
                let mut stored = b"kept".to_vec();
                let count = compress(&plain, level, &mut stored).unwrap();
                assert_eq!(stored.len(), 4 + count);
                let mut back = vec![7; 10];
                decompress(&stored[4..], len, &mut back).unwrap();
                assert!(back == plain, "{len} at level {level}");
            }
        }
    }

    #[test]
    fn no_flipped_byte_passes() {
        let plain = sample(3000);
        let mut stored = Vec::new();
        compress(&plain, 1, &mut stored).unwrap();
        let mut out = Vec::new();
        for place in 0..stored.len() {
            let mut bad = stored.clone();
            bad[place] ^= 0x10;
            assert!(decompress(&bad, plain.len(), &mut out).is_err(), "byte {place}");
        }
    }

    #[test]
    fn wrong_lengths_and_cuts_are_refused() {
        let plain = vec![0; 100_000];
        let mut stored = Vec::new();
        compress(&plain, 1, &mut stored).unwrap();
        let mut out = Vec::new();
        assert!(matches!(decompress(&stored, 99_999, &mut out), Err(CodecError::WrongLength { .. })));
        assert_eq!(out.len(), 99_999, "must not grow");
        assert!(matches!(decompress(&stored, 100_001, &mut out), Err(CodecError::WrongLength { .. })));
        for cut in 0..stored.len() {
            assert!(decompress(&stored[..cut], plain.len(), &mut out).is_err(), "cut at {cut}");
        }
        stored.push(0);
        assert!(matches!(
            decompress(&stored, plain.len(), &mut out),
            Err(CodecError::TrailingBytes { extra: 1 })
        ));
        assert!(matches!(decompress(&stored, 33_554_433, &mut out), Err(CodecError::TooLarge { .. })));
    }
}
