//! Adler-32 over stream files, as `….data.chksum` records it.
//!
//! The start value is 1, so the checksum of no bytes is 1.

use crate::regular;
use std::io::{self, Read};
use std::path::Path;

/// The modulus of Adler-32: the largest prime below 2^16.
const BASE: u32 = 65521;

/// Bytes of a file read at once.
const READ_LEN: usize = 1 << 20;

/// A running checksum.
#[derive(Clone, Default)]
pub struct Adler32 {
    state: simd_adler32::Adler32,
}

impl std::fmt::Debug for Adler32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Adler32").field(&self.finish()).finish()
    }
}

impl Adler32 {
    /// The checksum of no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes further bytes into account.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.write(bytes);
    }

    /// The checksum of all bytes so far. May be asked at any time.
    pub fn finish(&self) -> u32 {
        self.state.finish()
    }
}

/// The checksum of `bytes`.
pub fn adler32(bytes: &[u8]) -> u32 {
    let mut sum = Adler32::new();
    sum.update(bytes);
    sum.finish()
}

/// The checksum of A followed by B, from the checksums of A and of B and the length of B alone.
///
/// Lets blocks be summed on many threads and joined in order, and a block be replaced afterwards.
pub fn combine(a: u32, b: u32, len_b: u64) -> u32 {
    // Each sum is below BASE and `rem` too, so no intermediate value passes u32.
    let rem = (len_b % u64::from(BASE)) as u32;
    let (a_low, a_high, b_low, b_high) = (a & 0xffff, a >> 16, b & 0xffff, b >> 16);
    // Both halves start with the 1 of the empty checksum, so one of the two is taken away again.
    let low = (a_low + b_low + BASE - 1) % BASE;
    let carried = ((u64::from(rem) * u64::from(a_low)) % u64::from(BASE)) as u32;
    let high = (carried + a_high + b_high + BASE - rem) % BASE;
    high << 16 | low
}

/// The checksum of a whole file.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn of_file(path: &Path) -> io::Result<u32> {
    let (mut file, mut sum, mut room) = (regular::open(path)?, Adler32::new(), vec![0; READ_LEN]);
    loop {
        match file.read(&mut room)? {
            0 => return Ok(sum.finish()),
            count => sum.update(&room[..count]),
        }
    }
}

/// The number in a checksum file; `None` when there is no number in it.
///
/// # Errors
/// When the file cannot be read.
pub fn read_file(path: &Path) -> io::Result<Option<u32>> {
    let mut text = String::new();
    let read = regular::open(path).and_then(|file| file.take(64).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        _ => Ok(text.trim().parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adler-32 as RFC 1950 defines it, one byte at a time.
    fn straight(bytes: &[u8]) -> u32 {
        let (mut low, mut high) = (1u32, 0u32);
        for byte in bytes {
            low = (low + u32::from(*byte)) % BASE;
            high = (high + low) % BASE;
        }
        high << 16 | low
    }

    #[test]
    fn known_values() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
    }

    #[test]
    fn any_cut_gives_the_straight_sum() {
        let mut random = random::Random::from_seed(1);
        for len in [0, 1, 2, 31, 5552, 65520, 65521, 65522, 200_000] {
            let bytes = random.bytes(len);
            let want = straight(&bytes);
            for cut in [0, len / 3, len / 2, len.saturating_sub(1), len] {
                let (a, b) = bytes.split_at(cut);
                let mut running = Adler32::new();
                running.update(a);
                running.update(b);
                assert_eq!(running.finish(), want, "running, {cut} of {len}");
                assert_eq!(
                    combine(straight(a), straight(b), b.len() as u64),
                    want,
                    "combined, {cut} of {len}"
                );
            }
        }
    }

    #[test]
    fn combine_at_the_edges_of_the_modulus() {
        for bytes in [vec![0xff; 300_000], vec![0; 131_042], vec![0xff; 65521]] {
            for cut in [1, 65520, 65521] {
                let (a, b) = bytes.split_at(cut);
                assert_eq!(combine(adler32(a), adler32(b), b.len() as u64), straight(&bytes), "cut {cut}");
            }
        }
    }
}
