//! Images in the format qcow2.

use super::set_up::{recorded, run, sha256};
use crate::golden::Golden;
use crate::program::{VMSTREAM, text, vmstream};
use std::path::Path;
use std::process::Command;

#[test]
fn qcow2_images_hold_the_disk_and_little_more() {
    let golden = Golden::extract();
    for (point, disk, want) in recorded(&golden) {
        let args =
            ["extract", ".", "--disk", &disk, "--until", &point, "-o", "../i.qcow2", "--format", "qcow2"];
        let done = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let image = golden.lz4().join("../i.qcow2");
        run(Command::new("qemu-img").args(["check", "-q"]).arg(&image));
        let raw = golden.root().join("raw");
        run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(&image).arg(&raw));
        assert_eq!(sha256(&raw), want, "{disk} at {point}");
        let used = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap());
        assert!(used(&image) * 512 <= used(&raw) * 512 + (8 << 20), "zeros take room");
        let args = ["compare", ".", "../i.qcow2", "--disk", &disk, "--until", &point];
        let same = vmstream(&golden.lz4(), &args);
        assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
    }
    let args = ["extract", ".", "--disk", "vda", "-o", "../i.qcow2", "--format", "qcow2"];
    let again = vmstream(&golden.lz4(), &args);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"));
}

#[test]
fn a_host_without_qemu_writes_them_too_and_cannot_read_them() {
    let golden = Golden::extract();
    let run = |args: &[&str]| {
        let mut command = Command::new(VMSTREAM);
        command.args(args).current_dir(golden.lz4()).env("PATH", "/nowhere").output().unwrap()
    };
    let done = run(&["extract", ".", "--disk", "vda", "-o", "../i.qcow2"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let refused = run(&["compare", ".", "../i.qcow2", "--disk", "vda"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("the program qemu-nbd, which is not installed"));
    let same = vmstream(&golden.lz4(), &["compare", ".", "../i.qcow2", "--disk", "vda"]);
    assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
}

#[test]
fn a_damaged_chain_gives_no_qcow2_either() {
    let golden = Golden::damaged();
    let before = std::fs::read_dir(golden.lz4().join("..")).unwrap().count();
    let args = ["extract", ".", "--disk", "vda", "-o", "../i.qcow2", "--format", "qcow2"];
    assert_eq!(vmstream(&golden.lz4(), &args).status.code(), Some(1));
    assert_eq!(vmstream(&golden.lz4(), &["extract", ".", "--disk", "vda", "-o", "-"]).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(golden.lz4().join("..")).unwrap().count(), before, "something is left");
}
