//! Numbers that look random and follow from a seed: who sees a failure gives the seed, and sees it again.
//!
//! Lives here: the one generator of all tests, of fuzzing and of benchmarks. Must not live here: anything that a program
//! is built of, and keys: these numbers can be guessed.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence of numbers: SplitMix64.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence whose seed a variable of the environment names, else a new one at each call. Prints the seed.
    pub fn from_environment(variable: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is before 1970");
        Self::seeded(variable, since.as_micros() as u64)
    }

    /// The same, with a seed for when the variable is not set. Prints the seed.
    pub fn seeded(variable: &str, usual: u64) -> Self {
        let given = std::env::var(variable).ok();
        let parsed = given.map_or(Ok(usual), |text| text.parse());
        let seed = parsed.unwrap_or_else(|error| panic!("{variable} is not a number: {error}"));
        println!("{variable}={seed}");
        Self::from_seed(seed)
    }

    /// The sequence that belongs to a seed, for those who print it themselves or always take the same.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64() % limit
    }

    /// A place in something of `len` parts, which must not be zero.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of several things; panics when there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Bytes that no compression makes fewer.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| self.next_u64().to_le_bytes());
        words.take(len).collect()
    }

    /// A byte range of a disk of `disk_bytes`, aligned to 512 and at most `longest` bytes long.
    pub fn range(&mut self, disk_bytes: u64, longest: u64) -> (u64, u64) {
        let sectors = disk_bytes / 512;
        let start = self.below(sectors);
        let most = (sectors - start).min(longest / 512).max(1);
        (start * 512, (1 + self.below(most)) * 512)
    }
}
