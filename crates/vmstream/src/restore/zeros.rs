//! Zeros in content: found, so that nobody stores them.

use std::io;

/// Zeros shorter than this are written rather than left out. The block size of common file systems.
const HOLE_BLOCK: usize = 4096;

/// Hands on content without its whole blocks of zeros. Returns the bytes handed on.
pub(crate) fn write_parts(
    at: u64,
    bytes: &[u8],
    mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut from, mut to, mut written) = (0, 0, 0);
    let mut part = |range: std::ops::Range<usize>| {
        if range.is_empty() {
            return Ok(());
        }
        written += range.len() as u64;
        write(at + range.start as u64, &bytes[range])
    };
    while to < bytes.len() {
        // Blocks as the file system cuts them, also when `at` is not on a border.
        let border = HOLE_BLOCK - ((at + to as u64) % HOLE_BLOCK as u64) as usize;
        let block_end = bytes.len().min(to + border);
        if is_zero(&bytes[to..block_end]) {
            part(from..to)?;
            from = block_end;
        }
        to = block_end;
    }
    part(from..bytes.len())?;
    Ok(written)
}

/// True when all bytes are zero. Stops soon after the first that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Without an early exit inside a chunk the compiler compares many bytes at once.
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_one_byte_that_is_not_zero() {
        assert!(is_zero(&[]));
        assert!(is_zero(&[0; 10_000]));
        for at in [0, 4095, 4096, 9_999] {
            let mut bytes = vec![0; 10_000];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
    }
}
