//! A small random generator: every run prints its seed, so a failure can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64. Good enough to choose offsets; not for keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Takes the seed from `LAB_SEED`, or a new one from the clock, and prints it.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("LAB_SEED") {
            Ok(given) => given.parse().expect("LAB_SEED is not a number"),
            Err(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is before 1970");
                since.as_micros() as u64
            }
        };
        println!("LAB_SEED={seed}");
        Self::from_seed(seed)
    }

    /// Starts the sequence that belongs to one seed.
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

    /// A random byte range of a disk of `disk_bytes`, aligned to 512 and at most `longest` bytes long.
    pub fn range(&mut self, disk_bytes: u64, longest: u64) -> (u64, u64) {
        let sectors = disk_bytes / 512;
        let start = self.below(sectors);
        let most = (sectors - start).min(longest / 512).max(1);
        (start * 512, (1 + self.below(most)) * 512)
    }
}
