//! Every fuzz target on stable Rust: its seeds and findings, then a short run over mutated seeds.
//!
//! `FUZZ_SECONDS` says how long each target runs on mutated seeds (1), `FUZZ_SEED` with which number it begins.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuzz_bodies::mutate::mutated;
use fuzz_bodies::{TARGETS, Target};
use random::Random;

/// No input may take longer. Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs a target over inputs. When one breaks a promise or does not come back, it is kept in a file and named.
fn watched(target: &'static Target, about: &str, inputs: impl Iterator<Item = Vec<u8>> + Send + 'static) {
    // Without room: the input that is named is the one that is read.
    let (tell, hear) = sync_channel::<Vec<u8>>(0);
    let worker = std::thread::spawn(move || {
        for input in inputs {
            tell.send(input.clone()).unwrap();
            target.run(&input);
        }
    });
    let mut last = Vec::new();
    loop {
        match hear.recv_timeout(LIMIT) {
            Ok(input) => last = input,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "{}, {about}: no end after {LIMIT:?} on {}",
                    target.name,
                    keep(target, &last).display()
                );
            }
        }
    }
    if worker.join().is_err() {
        panic!("{}, {about}: broken by {}", target.name, keep(target, &last).display());
    }
}

fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("finding-{}", target.name));
    std::fs::write(&path, input).unwrap();
    path
}

/// One at a time: the allocator counts for the whole process, seeds and mutations of another target too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn replay(name: &str) {
    let _alone = alone();
    let target = Target::find(name).unwrap();
    let mut seeds = (target.seeds)();
    seeds.extend(target.findings().unwrap());
    assert!(!seeds.is_empty());
    watched(target, "seeds", seeds.clone().into_iter());

    let seconds = number("FUZZ_SECONDS").unwrap_or(1);
    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        clock.as_nanos() as u64
    });
    println!("{name}: FUZZ_SEED={seed} FUZZ_SECONDS={seconds}");
    let longest = seeds.iter().map(Vec::len).max().unwrap_or(0) + 64;
    let mut random = Random::from_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let inputs =
        std::iter::from_fn(move || (Instant::now() < end).then(|| mutated(&seeds, longest, &mut random)));
    watched(target, &format!("FUZZ_SEED={seed}"), inputs);
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    frame meta trailer piece stream stream_round_trip sidecar recorder_round_trip names checkpoint_list chain disk domain_xml checkpoint_xml
    checkpoint_round_trip agent_reply block_status glob conf toml config_round_trip
}

/// A target that is only in one of the three places would run in none of the others.
#[test]
fn every_target_is_replayed_here_and_has_its_file_for_libfuzzer() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(replayed, names);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let built: BTreeSet<String> = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(built, names);
    for name in &names {
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name}");
        let body = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(body.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// The counting allocator sees what a reader takes.
#[test]
#[should_panic(expected = "bytes held")]
fn a_reader_that_takes_too_much_is_caught() {
    let _alone = alone();
    fuzz_bodies::greedy().run(b"");
}
