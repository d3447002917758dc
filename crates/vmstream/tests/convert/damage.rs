//! Damage to the old set is named, and nothing is left of the new one.

use super::set_up::{converted, flip, left, point};
use crate::chains::{Form, Link, write_chain};
use crate::golden::Golden;
use crate::program::{text, vmstream};
use std::path::PathBuf;
use vmstream::convert::{Compression, Shape};
use vmstream::sidecar::{Run, RunKind, Sidecar, SidecarWriter};

/// What is done to a set.
type Damage = fn(&Golden);

#[test]
fn damage_is_named_and_nothing_is_left_of_the_new_set() {
    let cases: [(&str, Damage, &str); 7] = [
        (
            "compressed content",
            |golden| flip(&golden.lz4().join("vda.inc.virtnbdbackup.1.data"), |len| len / 2),
            "vda.inc.virtnbdbackup.1.data cannot be used\n  because: Frame ",
        ),
        (
            "uncompressed content",
            |golden| flip(&golden.plain().join("vda.full.data"), |len| len / 2),
            "vda.full.data is ",
        ),
        (
            "content that newer streams hide",
            |golden| flip(&golden.plain().join("vda.inc.virtnbdbackup.1.data"), |len| len / 2),
            "vda.inc.virtnbdbackup.1.data is ",
        ),
        (
            "a checksum",
            |golden| std::fs::write(golden.plain().join("vda.full.data.chksum"), "77").unwrap(),
            "its checksum file says 77",
        ),
        (
            "no checksum",
            |golden| std::fs::write(golden.lz4().join("vda.full.data.chksum"), "none").unwrap(),
            "vda.full.data.chksum: the checksum file does not hold a number",
        ),
        (
            "a stream is gone",
            |golden| std::fs::remove_file(golden.lz4().join("vdb.inc.virtnbdbackup.1.data")).unwrap(),
            "Disk vdb has no stream at virtnbdbackup.1",
        ),
        (
            "a definition is gone",
            |golden| std::fs::remove_file(golden.lz4().join("vmconfig.virtnbdbackup.3.xml")).unwrap(),
            "virtnbdbackup.3 has no vmconfig",
        ),
    ];
    for (name, damage, want) in cases {
        let golden = Golden::extract();
        damage(&golden);
        let is_bad = |dir: &&PathBuf| vmstream(dir, &["verify", "."]).status.code() == Some(1);
        let bad = [golden.lz4(), golden.plain()].iter().find(is_bad).unwrap().clone();
        for args in [&["convert", ".", "--to", "../new"][..], &["convert", ".", "--to", "../new", "--squash"]]
        {
            let done = vmstream(&bad, args);
            let said = text(&done.stderr);
            let lost = said.contains("needs its stream of virtnbdbackup.1, which is missing");
            assert!(said.contains(want) || lost, "{name}: {said}");
            assert_eq!(done.status.code(), Some(1), "{name}: {said}");
            assert_eq!(left(&bad.with_file_name("new")), [""; 0], "{name}");
        }
    }
}

#[test]
fn streams_that_are_whole_but_do_not_make_the_disk_up_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let full = Link { size: 1 << 20, alone: true, frames: vec![(0..1 << 20, Some(vec![5; 1 << 20]))] };
    let inc = Link { size: 1 << 20, alone: false, frames: vec![(0..65_536, Some(vec![6; 65_536]))] };
    let old = dir.path().join("old");
    write_chain(&old, &[full, inc], Form { compression: Some(1), frame_len: 1 << 20, sidecars: true });
    let path = old.join("vda.inc.virtnbdbackup.1.idx");
    let head = Sidecar::open(&path).unwrap().head().clone();
    let mut writer = SidecarWriter::create(&path, head.granules).unwrap();
    let sixes = crc32fast::hash(&[6; 65_536]);
    writer.run(&Run { first: 0, kind: RunKind::Known(vec![sixes]) }).unwrap();
    writer.run(&Run { first: 3, kind: RunKind::Known(vec![77]) }).unwrap();
    writer.finish(&head).unwrap();
    let new = dir.path().join("new");
    let failed = converted(&old, Shape::Full(point("virtnbdbackup.1")), &new, Compression::None).unwrap_err();
    assert!(failed.is_damage());
    assert!(
        failed.to_string().starts_with("Disk bytes 196608..262144 are not what the disk had"),
        "{failed}"
    );
    assert_eq!(left(&new), [""; 0]);
    converted(&old, Shape::Full(point("virtnbdbackup.0")), &new, Compression::None).unwrap();
}

#[test]
fn what_is_claimed_of_a_raw_image_is_held_against_it() {
    let golden = Golden::extract();
    let (new, again) = (golden.root().join("new"), golden.root().join("again"));
    converted(&golden.plain(), Shape::SamePoints, &new, Compression::Lz4(1)).unwrap();
    let done = vmstream(golden.root(), &["convert", "new", "--to", "again"]);
    assert_eq!((text(&done.stderr), done.status.code()), ("", Some(0)), "its sidecar proves it by now");
    std::fs::remove_dir_all(&again).unwrap();
    flip(&new.join("vdb.copy.data"), |len| len / 2);
    let failed = converted(&new, Shape::SamePoints, &again, Compression::None).unwrap_err();
    assert!(failed.is_damage() && failed.to_string().contains("bytes 524288..589824"), "{failed}");
    assert_eq!(left(&again), [""; 0]);
}

#[test]
fn a_good_point_of_a_damaged_chain_can_be_put_together() {
    let golden = Golden::extract();
    flip(&golden.lz4().join("vda.inc.virtnbdbackup.2.data"), |len| len / 2);
    std::fs::remove_file(golden.lz4().join("vmconfig.virtnbdbackup.3.xml")).unwrap();
    let args = ["convert", ".", "--to", "../new", "--squash", "--until", "virtnbdbackup.1"];
    let done = vmstream(&golden.lz4(), &args);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("warning: not needed for the new full: virtnbdbackup.3 has no vmconfig")
    );
    assert_eq!(vmstream(&golden.lz4(), &["verify", "../new"]).status.code(), Some(0));
}
