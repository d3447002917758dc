//! What people are told, and which wishes are refused.

use super::set_up::left;
use crate::golden::Golden;
use crate::program::{text, vmstream};
use serde_json::Value;

#[test]
fn wishes_that_cannot_be_met_are_explained() {
    let golden = Golden::extract();
    std::fs::create_dir(golden.lz4().join("../taken")).unwrap();
    std::fs::create_dir(golden.lz4().join("../stopped.partial")).unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["--to", "../taken"], "../taken exists already: choose another name"),
        (
            &["--to", "../stopped"],
            "../stopped.partial is left of a conversion that was stopped, or one is running",
        ),
        (&["--to", "../no/such"], "No such file or directory"),
        (
            &["--to", "../new", "--compression", "none", "--level", "3"],
            "--level means nothing without compression",
        ),
        (&["--to", "../new", "--level", "17"], "levels of lz4 end at 16"),
        (&["--to", "../new", "--until", "virtnbdbackup.1"], "--squash"),
        (
            &["--to", "../new", "--squash", "--until", "virtnbdbackup.9"],
            "has no restore point virtnbdbackup.9",
        ),
    ];
    for (args, want) in cases {
        let done = vmstream(&golden.lz4(), &[&["convert", "."], args].concat());
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        assert!(text(&done.stderr).contains(want), "{args:?}: {}", text(&done.stderr));
    }
    let copy = vmstream(&golden.copy(), &["convert", ".", "--to", "../new", "--squash"]);
    assert!(text(&copy.stderr).contains("copy stands alone: convert it without squashing"));
    assert_eq!(left(&golden.lz4().with_file_name("new")), [""; 0]);
}

#[test]
fn people_are_told_what_was_made() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["convert", ".", "--to", "../new", "--compression", "none"]);
    let want = "  vda.full.data                 385 KiB of 384 KiB    was 385 KiB
  vda.inc.virtnbdbackup.1.data  64.4 KiB of 64.0 KiB  was 64.4 KiB
  vda.diff.1795377788.data      64.4 KiB of 64.0 KiB  was 64.4 KiB

../new: 3 restore points, uncompressed (513 KiB, was 513 KiB)
";
    let raw = "warning: nothing proves vdb.copy.data: it was copied as it was read\n";
    assert_eq!((text(&done.stdout), text(&done.stderr), done.status.code()), (want, raw, Some(0)));
    std::fs::remove_file(golden.plain().join("vda.full.data.chksum")).unwrap();
    let done = vmstream(&golden.plain(), &["convert", ".", "--to", "../full", "--squash", "--level", "9"]);
    let want = "  vda.full.data  SIZE of 512 KiB  was 513 KiB

../full: diff.1795377788 as one new full, LZ4 level 9 (SIZE, was 513 KiB)
No increment can follow it: libvirt has no checkpoint for it. Keep it beside the chain that goes on, or as an archive:
a backup program that finds it in the place of its chain begins a new one, or refuses.
";
    let size = text(&done.stdout).split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(text(&done.stdout).replace(&size, "SIZE"), want);
    let want = "\
warning: nothing proves vda.full.data: vda.full.data holds what was read there
warning: nothing proves vdb.copy.data: it was copied as it was read
warning: vdb is a raw disk: its content is that of virtnbdbackup.0, not of diff.1795377788
warning: diff.1795377788 is made of increments by virtnbdbackup that may have lost changes when they were written; \
the new full has the same content (vmstream doctor says more about the old set)
";
    assert_eq!((text(&done.stderr), done.status.code()), (want, Some(0)));
    let done = vmstream(&golden.lz4(), &["convert", ".", "--to", "../json", "--json"]);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&json["compression"], &json["level"], &json["squashed"]),
        (&"lz4".into(), &1.into(), &Value::Null)
    );
    assert_eq!((json["points"].as_array().unwrap().len(), json["streams"].as_array().unwrap().len()), (4, 8));
    assert_eq!(json["streams"][0]["source_bytes"], 483_699);
    assert_eq!(json["warnings"], Value::Array(Vec::new()));
}
