//! `vmstream cat`: the bytes, what is said beside them, and how it ends.

use crate::ours::{DISK, Ours};
use crate::program::VMSTREAM;
use std::path::Path;
use std::process::{Command, Output};

fn cat(dir: &Path, args: &[&str]) -> Output {
    Command::new(VMSTREAM).arg("cat").arg(dir).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_bytes_and_nothing_else_go_to_standard_output() {
    let ours = Ours::new(Some(1));
    for (args, want) in [
        (&["--disk", "vda"][..], &ours.disks[2][..]),
        (&["--disk", "vda", "--offset", "131072", "--length", "100"], &ours.disks[2][131_072..131_172]),
        (&["--disk", "vda", "--until", "0", "--offset", "300", "--length", "200"], &ours.disks[0][300..500]),
        (&["--disk", "vda", "--length", "0"], &[]),
    ] {
        let done = cat(ours.dir(), args);
        assert_eq!(done.status.code(), Some(0), "{args:?}: {}", told(&done));
        assert!(done.stdout == want, "{args:?}");
        assert_eq!(told(&done), "", "{args:?}");
    }
    let raw = cat(ours.dir(), &["--disk", "vdb", "--offset", "500"]);
    assert!(raw.stdout == ours.raw[500..]);
    assert!(told(&raw).contains("its content is that of virtnbdbackup.0"), "{}", told(&raw));
}

#[test]
fn what_cannot_be_had_is_said() {
    let ours = Ours::new(None);
    let size = DISK.to_string();
    for (args, want) in [
        (&[][..], "has several disks, vda, vdb: name one with --disk"),
        (&["--disk", "vdz"], "Disk vdz is not part of virtnbdbackup.2"),
        (&["--disk", "vda", "--offset", &size, "--length", "1"], "choose --offset and --length within them"),
        (&["--disk", "vda", "--offset", "18446744073709551615", "--length", "2"], "has 329216 bytes"),
        (&["--disk", "vda", "--until", "9"], "no restore point virtnbdbackup.9"),
    ] {
        let done = cat(ours.dir(), args);
        assert_eq!((done.status.code(), &done.stdout[..]), (Some(2), &b""[..]), "{args:?}");
        assert!(told(&done).contains(want), "{args:?}: {}", told(&done));
        let json = cat(ours.dir(), &[args, &["--json"]].concat());
        let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&document["schema"], &document["exit"]), (&"vmstream/error/1".into(), &2.into()));
    }
}

#[test]
fn damage_is_told_with_its_place_and_gives_no_bytes() {
    let ours = Ours::new(None);
    let path = ours.path("vda.inc.virtnbdbackup.2.data");
    let mut bytes = std::fs::read(&path).unwrap();
    let frame = bytes.windows(5).position(|five| five == b"data ").unwrap();
    bytes[frame + 60] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let hit = ["--disk", "vda", "--offset", "131072", "--length", "512", "--json"];
    let done = cat(ours.dir(), &hit);
    assert_eq!(done.status.code(), Some(1), "{}", told(&done));
    let document: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["exit"], 1);
    let told = told(&done);
    for part in [
        "virtnbdbackup.2",
        "vda.inc.virtnbdbackup.2.data",
        "Frame 0 at file offset",
        "disk range 131072..196608",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let beside = cat(ours.dir(), &["--disk", "vda", "--length", "131072"]);
    assert_eq!(beside.status.code(), Some(0));
    assert!(beside.stdout == ours.disks[2][..131_072]);
}

#[test]
fn what_nothing_proves_is_said() {
    let ours = Ours::new(Some(1));
    for file in ours.files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".idx") || name.ends_with(".chksum") {
            std::fs::remove_file(&file).unwrap();
        }
    }
    let done = cat(ours.dir(), &["--disk", "vda", "--length", "700"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout == ours.disks[2][..700]);
    assert!(told(&done).contains("warning: nothing proves"), "{}", told(&done));
}

#[test]
fn a_stream_that_is_not_what_its_checksum_file_says_is_refused_unless_told_otherwise() {
    let ours = Ours::new(Some(1));
    for file in ours.files().iter().filter(|file| file.extension().is_some_and(|end| end == "idx")) {
        std::fs::remove_file(file).unwrap();
    }
    std::fs::write(ours.path("vda.full.data.chksum"), "1").unwrap();
    let range = ["--disk", "vda", "--length", "700"];
    let done = cat(ours.dir(), &range);
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(1), &b""[..]));
    assert!(told(&done).contains("--no-check writes it all the same"), "{}", told(&done));
    let done = cat(ours.dir(), &[&range[..], &["--no-check"]].concat());
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout == ours.disks[2][..700]);
    assert!(told(&done).contains("warning: nothing proves"), "{}", told(&done));
}
