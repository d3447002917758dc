//! Joining block status replies, in bytes of replies per second: `cargo bench -p vmbackup --bench extents`.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use random::Random;
use vmbackup::engine::copy::extent::{Context, SpanMerger};

/// Extents of a reply, and of all replies of one context.
const REPLY: usize = 1000;
const EXTENTS: usize = 100_000;
/// An extent on the wire: length and flags.
const EXTENT_BYTES: u64 = 8;

/// Extents of 64 KiB to 1 MiB whose flags change from one to the next.
fn extents(seed: u64) -> Vec<(u32, u32)> {
    let mut random = Random::from_seed(seed);
    (0..EXTENTS).map(|i| ((1 + random.below(16) as u32) << 16, i as u32 % 2 * 3)).collect()
}

fn merge(size: u64, contexts: &[(Context, &[(u32, u32)])]) -> usize {
    let mut merger = SpanMerger::new(size, contexts.len() > 1);
    let mut at = vec![0; contexts.len()];
    let mut spans = 0;
    for first in (0..EXTENTS).step_by(REPLY) {
        for ((context, extents), at) in contexts.iter().zip(&mut at) {
            let reply = &extents[first..first + REPLY];
            merger.reply(*context, *at, reply).unwrap();
            *at += reply.iter().map(|(len, _)| u64::from(*len)).sum::<u64>();
        }
        spans += merger.spans().len();
    }
    spans
}

fn extent_merge(c: &mut Criterion) {
    let (allocation, dirty) = (extents(1), extents(2));
    let size = allocation.iter().map(|(len, _)| u64::from(*len)).sum();
    let mut group = c.benchmark_group("extent_merge");
    group.sample_size(20).throughput(Throughput::Bytes(EXTENTS as u64 * EXTENT_BYTES));
    group.bench_function("full/100000_extents", |b| {
        b.iter(|| merge(size, black_box(&[(Context::Allocation, &allocation[..])])));
    });
    group.throughput(Throughput::Bytes(2 * EXTENTS as u64 * EXTENT_BYTES));
    group.bench_function("incremental/2x100000_extents", |b| {
        let both = [(Context::Allocation, &allocation[..]), (Context::DirtyBitmap, &dirty[..])];
        b.iter(|| merge(size, black_box(&both)));
    });
    group.finish();
}

criterion_group!(benches, extent_merge);
criterion_main!(benches);
