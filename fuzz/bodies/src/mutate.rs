//! A simple mutator, for runs without libFuzzer: changes seeds a little, with nothing but a number to begin with.

/// Values that tend to break readers.
const EDGES: [&[u8]; 22] = [
    b"0",
    b"1",
    b"255",
    b"4096",
    b"33554432",
    b"18446744073709551615",
    b"-1",
    b"1e9",
    b"ffffffffffffffff",
    b"0000000000000000",
    b"\r\n",
    b"\n",
    b"\"",
    b"'",
    b"<",
    b"{",
    b"[",
    b"]",
    b"}",
    b"\\",
    b"\0",
    b"\xff",
];

/// Random numbers from a seed (xorshift64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end.max(1)
    }
}

/// One of the seeds, changed in one to eight places. Not longer than `longest`.
pub fn mutated(seeds: &[Vec<u8>], longest: usize, random: &mut Random) -> Vec<u8> {
    let mut input = seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(8) {
        change(&mut input, seeds, random);
    }
    input.truncate(longest);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => drop(input.drain(at.min(end)..end)),
        3 => {
            let copy = input[at.min(end)..end].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let edge = EDGES[random.below(EDGES.len())];
            input.splice(at..at, edge.iter().copied());
        }
        5 => {
            let edge = EDGES[random.below(EDGES.len())];
            let end = (at + edge.len()).min(input.len());
            input.splice(at..end, edge.iter().copied());
        }
        6 => input.truncate(at),
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let len = random.below(64).min(other.len() - from);
            input.splice(at..at, other[from..from + len].iter().copied());
        }
        _ => {
            if let Some(digit) = input[at..].iter_mut().find(|byte| byte.is_ascii_hexdigit()) {
                *digit = b"0123456789abcdef"[random.below(16)];
            }
        }
    }
}
