//! A chain with more streams than the system allows open files.

use crate::chains::{Form, Link, write_chain};
use crate::program::VMSTREAM;
use random::Random;
use std::process::Command;

const POINTS: u64 = 300;

const SIZE: u64 = 256 << 10;

#[test]
fn a_chain_longer_than_the_open_files_allowed_is_worked_on() {
    let mut random = Random::seeded("SEED", 0x5eed_10c6);
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Vec::new();
    let links: Vec<Link> = (0..POINTS)
        .map(|number| {
            let (start, len) = if number == 0 { (0, SIZE) } else { (random.below(4) << 16, 1 << 16) };
            let content = (0..len).map(|_| random.below(256) as u8).collect();
            let link =
                Link { size: SIZE, alone: number == 0, frames: vec![(start..start + len, Some(content))] };
            link.apply(&mut disk);
            link
        })
        .collect();
    write_chain(
        &dir.path().join("set"),
        &links,
        Form { compression: Some(1), frame_len: 1 << 16, sidecars: true },
    );
    let run = |args: &[&str]| {
        let mut limited = Command::new("prlimit");
        limited.args(["--nofile=64:64", VMSTREAM]).args(args).current_dir(&dir);
        let done = limited.output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(0), "{args:?}: {said}");
        said
    };
    let extracted = run(&["extract", "set", "--disk", "vda", "-o", "vda.img"]);
    assert!(extracted.contains(", proven by its sidecars"), "{extracted}");
    assert!(std::fs::read(dir.path().join("vda.img")).unwrap() == disk, "the image is the disk");
    run(&["verify", "set"]);
    let proven = run(&["verify", "--deep", "--json", "set"]);
    // What goes to standard error stands behind the document.
    let mut documents = serde_json::Deserializer::from_str(&proven).into_iter::<serde_json::Value>();
    let report = documents.next().unwrap().unwrap();
    let digests = report["sets"][0]["digests"].as_array().unwrap();
    assert!(
        digests.len() as u64 == POINTS && digests.iter().all(|found| found["proven_bytes"] == SIZE),
        "{digests:?}"
    );
    run(&["compare", "set", "--disk", "vda", "vda.img"]);
    run(&["convert", "set", "--squash", "--to", "full"]);
}
