//! Files of ours, judged by `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::layout::MAX_DISK;
use super::*;
use crate::restore::error::ExtractError;
use crate::restore::partial::Existing;
use crate::restore::target::Target;
use random::Random;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

fn qemu_img(arguments: &[&str], files: &[&Path]) {
    let output = Command::new("qemu-img").args(arguments).args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {said}");
}

/// Writes the same to a qcow2 and to a raw file, and has QEMU compare them.
fn hold_against_raw(disk_size: u64, parts: &[(u64, Vec<u8>)]) {
    let dir = tempfile::tempdir().unwrap();
    let (image, raw) = (dir.path().join("disk.qcow2"), dir.path().join("disk.raw"));
    let target = Qcow2Image::create(&image, disk_size, Existing::Keep).unwrap();
    let plain = File::create(&raw).unwrap();
    plain.set_len(disk_size).unwrap();
    // What one thread writes lies between what others write, so that they meet in clusters and tables.
    std::thread::scope(|scope| {
        for first in 0..3 {
            let (target, plain) = (&target, &plain);
            scope.spawn(move || {
                for (at, bytes) in parts.iter().skip(first).step_by(3) {
                    target.write(*at, bytes).unwrap();
                    plain.write_all_at(bytes, *at).unwrap();
                }
            });
        }
    });
    Box::new(target).finish(&|| Ok(())).unwrap();
    qemu_img(&["check", "-q", "-f", "qcow2"], &[&image]);
    qemu_img(&["compare", "-q", "-f", "qcow2", "-F", "raw"], &[&image, &raw]);
}

#[test]
fn what_threads_write_in_any_order_is_there() {
    let mut random = Random::from_environment("QCOW2_SEED");
    // More tables than are kept in memory.
    let disk_size = 50 << 30;
    let parts: Vec<(u64, Vec<u8>)> = (0..600)
        .map(|number| {
            let slot = disk_size / 600;
            let len = random.below(200_000) + 1;
            // Some end where the next begins, in the middle of a cluster.
            let at = slot * number + if number % 2 == 0 { slot - len } else { 0 };
            let byte = random.below(3) as u8;
            (at, vec![byte; len as usize])
        })
        .collect();
    hold_against_raw(disk_size, &parts);
}

#[test]
fn sizes_of_all_kinds_are_images() {
    hold_against_raw(0, &[]);
    hold_against_raw(512, &[(0, vec![1; 512])]);
    hold_against_raw(3 * 65_536 + 512, &[(65_530, vec![7; 65_550]), (3 * 65_536, vec![8; 512])]);
    // A file system of 16 TiB at most has no raw file of this size to compare with.
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.qcow2");
    let target = Qcow2Image::create(&image, 63 << 40, Existing::Keep).unwrap();
    target.write((63 << 40) - 5000, &[9; 5000]).unwrap();
    Box::new(target).finish(&|| Ok(())).unwrap();
    qemu_img(&["check", "-q", "-f", "qcow2"], &[&image]);
    assert!(std::fs::metadata(&image).unwrap().len() < 8 << 20);
}

#[test]
fn a_disk_that_qemu_would_not_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Qcow2Image::create(&dir.path().join("disk.qcow2"), MAX_DISK + 1, Existing::Keep);
    assert!(matches!(refused, Err(ExtractError::Qcow2TooLarge { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
