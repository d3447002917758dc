//! A conversion that is killed leaves a whole new set or none.

use super::set_up::{digests, files};
use crate::chains::{Form, Link, write_chain};
use crate::program::{VMSTREAM, vmstream};
use random::Random;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A set whose conversion takes a while.
fn large_chain(dir: &Path) {
    let mut random = Random::from_seed(77);
    let size = 48 << 20;
    let part = |random: &mut Random, start: u64, len: usize| {
        (start..start + len as u64, Some((0..len).map(|_| random.below(64) as u8).collect::<Vec<u8>>()))
    };
    let full =
        Link { size, alone: true, frames: vec![part(&mut random, 0, 8 << 20), ((8 << 20)..size, None)] };
    let inc = |random: &mut Random| Link { size, alone: false, frames: vec![part(random, 5 << 20, 2 << 20)] };
    let links = [full, inc(&mut random), inc(&mut random)];
    write_chain(dir, &links, Form { compression: Some(1), frame_len: 1 << 20, sidecars: false });
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_new_set_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    large_chain(&old);
    let before = files(&old);
    let want = digests(&old);
    let mut random = Random::seeded("CONVERT_KILL_SEED", 0x5eed_dead);
    let run = |squash: bool| {
        let mut command = Command::new(VMSTREAM);
        command.args(["convert", "old", "--to", "new", "--level", "4", "--workers", "2"]);
        command.args(squash.then_some("--squash")).current_dir(dir.path()).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let began = std::time::Instant::now();
    assert!(run(false).wait().unwrap().success());
    let whole_run = began.elapsed();
    std::fs::remove_dir_all(dir.path().join("new")).unwrap();
    let (mut none, mut whole) = (0, 0);
    for round in 0..12u32 {
        // Some kills come late, around the renames.
        let micros = whole_run.as_micros() as u64;
        let wait =
            if round % 3 == 0 { micros * 9 / 10 + random.below(micros / 5) } else { random.below(micros) };
        let squash = round % 2 == 1;
        let mut child = run(squash);
        std::thread::sleep(Duration::from_micros(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        let new = dir.path().join("new");
        if new.exists() {
            whole += 1;
            let found = digests(&new);
            assert_eq!(found.len(), if squash { 1 } else { want.len() });
            assert_eq!(found.last().unwrap().digest, want.last().unwrap().digest);
            std::fs::remove_dir_all(&new).unwrap();
        } else {
            none += 1;
        }
        let unfinished = dir.path().join("new.partial");
        if unfinished.exists() {
            let refused = vmstream(dir.path(), &["convert", "old", "--to", "new"]);
            assert_eq!(refused.status.code(), Some(2));
            std::fs::remove_dir_all(&unfinished).unwrap();
        }
        assert!(files(&old) == before, "round {round}");
    }
    println!("{none} without a new set, {whole} with a whole one");
    assert!(none > 0, "no kill came early enough");
}
