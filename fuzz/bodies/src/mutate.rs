//! A simple mutator, for runs without libFuzzer: changes seeds a little, with nothing but a number to begin with.

use random::Random;

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

/// One of the seeds, changed in one to eight places. Not longer than `longest`.
pub fn mutated(seeds: &[Vec<u8>], longest: usize, random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.index(seeds.len())].clone();
    for _ in 0..=random.index(8) {
        change(&mut input, seeds, random);
    }
    input.truncate(longest);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.index(input.len() + 1);
    let end = (at + 1 + random.index(16)).min(input.len());
    match random.index(9) {
        0 if at < input.len() => input[at] ^= 1 << random.index(8),
        1 if at < input.len() => input[at] = random.next_u64() as u8,
        2 => drop(input.drain(at.min(end)..end)),
        3 => {
            let copy = input[at.min(end)..end].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let edge = random.pick(&EDGES);
            input.splice(at..at, edge.iter().copied());
        }
        5 => {
            let edge = random.pick(&EDGES);
            let end = (at + edge.len()).min(input.len());
            input.splice(at..end, edge.iter().copied());
        }
        6 => input.truncate(at),
        7 => {
            let other = &seeds[random.index(seeds.len())];
            let from = random.index(other.len() + 1);
            let len = random.index(64).min(other.len() - from);
            input.splice(at..at, other[from..from + len].iter().copied());
        }
        _ => {
            if let Some(digit) = input[at..].iter_mut().find(|byte| byte.is_ascii_hexdigit()) {
                *digit = random.pick(b"0123456789abcdef");
            }
        }
    }
}
