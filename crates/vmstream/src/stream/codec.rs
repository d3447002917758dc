//! One stored piece: a standard LZ4 or zstd frame, with checksums of its own.
//!
//! LZ4: a checksum for each block. They cover every stored byte; the frame's checksum over the content, which other
//! writers add and this reader verifies, would say the same once more, for a third of the time that compressing takes.
//! zstd: the checksum over the content, the only one that it has.
//!
//! Must not live here: where a piece lies in a file or on a disk.

mod compression;
mod lz4_frame;
mod zstd_frame;

pub use compression::{CodecError, Compression, MAX_PIECE_LEN};
pub(crate) use lz4_frame::{MAX_HEAD_LEN, Part, Shape, decompress as decode_lz4};
pub(crate) use zstd_frame::decompress as decode_zstd;

/// Appends `plain` to `out` as one compressed frame and returns the bytes added.
///
/// # Errors
/// [`CodecError::TooLarge`] past [`MAX_PIECE_LEN`]; [`CodecError::Compress`] when the library has no memory.
pub fn compress(plain: &[u8], compression: Compression, out: &mut Vec<u8>) -> Result<usize, CodecError> {
    if plain.len() as u64 > MAX_PIECE_LEN {
        return Err(CodecError::TooLarge { plain_len: plain.len() });
    }
    let before = out.len();
    let done = match compression {
        Compression::Lz4(level) => lz4_frame::compress(plain, level, out),
        Compression::Zstd(level) => zstd_frame::compress(plain, level, out),
    };
    done.map_err(|source| CodecError::Compress { plain_len: plain.len(), compression, source })?;
    Ok(out.len() - before)
}

/// Replaces `out` by the `plain_len` bytes of the one LZ4 frame in `stored`.
///
/// Allocates `plain_len` bytes and no more, whatever the frame claims. Reuse `out`: its memory is kept.
/// After an error its content means nothing.
///
/// # Errors
/// [`CodecError`], when the frame is damaged, cut off, holds more or fewer bytes, or is followed by others.
pub fn decompress_lz4(stored: &[u8], plain_len: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if plain_len as u64 > MAX_PIECE_LEN {
        return Err(CodecError::TooLarge { plain_len });
    }
    out.resize(plain_len, 0);
    lz4_frame::decompress(stored, out)
}

/// Replaces `out` by the `plain_len` bytes of the one zstd frame in `stored`: as [`decompress_lz4`] for the other method.
///
/// # Errors
/// [`CodecError`], when the frame is damaged, cut off, holds more or fewer bytes, or is followed by others.
pub fn decompress_zstd(stored: &[u8], plain_len: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if plain_len as u64 > MAX_PIECE_LEN {
        return Err(CodecError::TooLarge { plain_len });
    }
    out.resize(plain_len, 0);
    zstd_frame::decompress(stored, out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use Compression::{Lz4, Zstd};

    fn sample(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 7 * 3)) as u8).collect()
    }

    fn decompress(
        compression: Compression,
        stored: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        match compression {
            Lz4(_) => decompress_lz4(stored, len, out),
            Zstd(_) => decompress_zstd(stored, len, out),
        }
    }

    #[test]
    fn every_size_and_level_comes_back() {
        let levels = [0, 1, 2, 4, 9, 16].map(Lz4).into_iter().chain([1, 3, 9, 19].map(Zstd));
        for compression in levels {
            for len in [1, 511, 65536, 262_144, 262_145, 2 << 20] {
                let plain = sample(len);
                let mut stored = b"kept".to_vec();
                let count = compress(&plain, compression, &mut stored).unwrap();
                assert_eq!(stored.len(), 4 + count);
                let mut back = vec![7; 10];
                decompress(compression, &stored[4..], len, &mut back).unwrap();
                assert!(back == plain, "{len} with {compression}");
            }
        }
    }

    #[test]
    fn no_flipped_byte_changes_the_content() {
        let plain = sample(3000);
        let mut harmless = 0;
        for compression in [Lz4(1), Zstd(1)] {
            let mut stored = Vec::new();
            compress(&plain, compression, &mut stored).unwrap();
            let mut out = Vec::new();
            for place in 0..stored.len() {
                let mut bad = stored.clone();
                bad[place] ^= 0x10;
                if decompress(compression, &bad, plain.len(), &mut out).is_ok() {
                    assert!(out == plain, "byte {place} with {compression}");
                    assert!(matches!(compression, Zstd(_)), "LZ4 covers every byte, not {place}");
                    harmless += 1;
                }
            }
        }
        // zstd leaves a few bits of its headers to chance. The stream's own checksum covers those.
        assert!(harmless < 4, "{harmless}");
    }

    #[test]
    fn wrong_lengths_and_cuts_are_refused() {
        let plain = vec![0; 100_000];
        for compression in [Lz4(1), Zstd(1)] {
            let mut stored = Vec::new();
            compress(&plain, compression, &mut stored).unwrap();
            let mut out = Vec::new();
            let mut refused =
                |stored: &[u8], len| decompress(compression, stored, len, &mut out).unwrap_err();
            assert!(matches!(refused(&stored, 99_999), CodecError::WrongLength { .. }));
            assert!(matches!(refused(&stored, 100_001), CodecError::WrongLength { .. }));
            for cut in 0..stored.len() {
                refused(&stored[..cut], plain.len());
            }
            stored.push(0);
            let error = refused(&stored, plain.len());
            assert!(matches!(error, CodecError::TrailingBytes { extra: 1 }), "{error}");
            assert!(matches!(refused(&stored, 33_554_433), CodecError::TooLarge { .. }));
            assert_eq!(out.len(), plain.len(), "must not grow");
        }
    }
}
