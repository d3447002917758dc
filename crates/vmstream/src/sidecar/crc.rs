//! CRC-32 (that of zlib) as algebra: the sum of a whole from the sums of its parts, in any order, zeros for free.
//!
//! A CRC-32 is the remainder of a polynomial, spoilt by inverting it before and after. The *plain remainder* of bytes
//! is linear: that of a whole is the XOR of the remainders of its parts, each moved by the bytes behind it, and zeros
//! add nothing. So a granule's sum is put together from parts that come at any time from any thread.

/// The generator polynomial, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The polynomial 1. The highest bit is the lowest power.
const ONE: u32 = 1 << 31;

/// `x^(2^k)` modulo the generator.
const POWERS: [u32; 32] = {
    let mut powers = [ONE >> 1; 32];
    let mut k = 1;
    while k < 32 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// The product of two polynomials modulo the generator.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { b >> 1 ^ POLYNOMIAL };
        bit >>= 1;
    }
    product
}

/// The plain remainder of some bytes, as it counts with `bytes_behind` more bytes behind them.
pub(crate) const fn shift(remainder: u32, bytes_behind: u64) -> u32 {
    // x^8 for each byte. The powers repeat after 2^32 - 1, so x^(2^32) is x^(2^0) again.
    let (mut left, mut k, mut factor) = (bytes_behind, 3, ONE);
    while left > 0 {
        if left & 1 == 1 {
            factor = multiply(POWERS[k % 32], factor);
        }
        left >>= 1;
        k += 1;
    }
    if factor == ONE { remainder } else { multiply(factor, remainder) }
}

/// Undoes [`shift`].
pub(crate) fn shift_back(remainder: u32, bytes_behind: u64) -> u32 {
    let period = u64::from(u32::MAX);
    shift(remainder, period - bytes_behind % period)
}

/// The CRC-32 of `len` bytes of zeros.
pub(crate) fn of_zeros(len: u64) -> u32 {
    // Those of granules and their parts are asked for millions of times.
    if len.is_power_of_two() { OF_ZEROS[len.trailing_zeros() as usize] } else { !shift(u32::MAX, len) }
}

/// The CRC-32 of `2^k` bytes of zeros.
const OF_ZEROS: [u32; 64] = {
    let mut sums = [0; 64];
    let mut k = 0;
    while k < 64 {
        sums[k] = !shift(u32::MAX, 1 << k);
        k += 1;
    }
    sums
};

/// The plain remainder of bytes with this CRC-32, or, the other way round, the CRC-32 of bytes with this remainder.
pub(crate) fn swap_form(sum: u32, len: u64) -> u32 {
    sum ^ of_zeros(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wholes_follow_from_parts() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0usize, 1, 7, 512, 65_536, 99_999] {
            for cut in [0, 1, len / 3, len.saturating_sub(1), len] {
                let cut = cut.min(len);
                let (a, b) = bytes[..len].split_at(cut);
                let whole = crc32fast::hash(&bytes[..len]);
                let part = |part: &[u8], behind: usize| {
                    shift(swap_form(crc32fast::hash(part), part.len() as u64), behind as u64)
                };
                assert_eq!(part(a, b.len()) ^ part(b, 0), swap_form(whole, len as u64), "{cut} of {len}");
            }
        }
    }

    #[test]
    fn zeros_of_every_length() {
        for len in [0, 1, 511, 65_536, 1 << 20, 12_345_678] {
            assert_eq!(of_zeros(len), crc32fast::hash(&vec![0; len as usize]), "{len}");
        }
        assert_eq!(shift_back(shift(0x1234_5678, 77), 77), 0x1234_5678);
        // x^(2^32 - 1) is 1: so many bits change nothing.
        assert_eq!(shift(0x1234_5678, u64::from(u32::MAX)), 0x1234_5678);
    }
}
