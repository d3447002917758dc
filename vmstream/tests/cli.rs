//! What people type and see: `info` and `extract`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod golden;

use golden::Golden;
use std::path::Path;
use std::process::{Command, Output};

fn vmstream(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmstream")).args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn info_fits_on_one_screen() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.plain(), &["info", "."]);
    let want = "\
plain in .: 3 restore points, 2 disks, 1.50 MiB

  POINT            TAKEN                VDA                   VDB
  virtnbdbackup.0  2026-11-22 20:03:05  385 KiB of 384 KiB    1.00 MiB raw
  virtnbdbackup.1  2026-11-22 20:03:07  64.4 KiB of 64.0 KiB  -
  diff.1795377788  2026-11-22 20:03:08  64.4 KiB of 64.0 KiB  -

  vda  40.0 MiB  qcow2  uncompressed
  vdb  1.00 MiB  raw    plain copy
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
}

#[test]
fn info_as_json_names_points_and_disks() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.lz4(), &["info", "--json", "."]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(json["domain"], "gold1");
    assert_eq!(json["points"].as_array().unwrap().len(), 4);
    assert_eq!(json["points"][1]["disks"]["vda"]["data_bytes"], 458_752);
    assert_eq!(json["points"][1]["parent"], "virtnbdbackup.0");
}

#[test]
fn verify_says_what_is_good() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.lz4(), &["verify", "."]);
    let want = "  virtnbdbackup.0  vda: good  vdb: good
  virtnbdbackup.1  vda: good  vdb: good
  virtnbdbackup.2  vda: good  vdb: good
  virtnbdbackup.3  vda: good  vdb: good

gold1 in .: good, all 4 restore points can be restored (8 streams, 43.8 MiB of content)
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
}

#[test]
fn extract_takes_the_newest_point_and_says_so() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["extract", ".", "--disk", "vda", "-o", "../vda.raw"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(
        text(&done.stdout).starts_with("Disk vda at diff.1795377788: 40.0 MiB"),
        "{}",
        text(&done.stdout)
    );
    let again = vmstream(&golden.plain(), &["extract", ".", "--disk", "vda", "-o", "../vda.raw"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"));
    let args = ["extract", ".", "--disk", "vda", "-o", "../vda.raw", "--force", "--until", "virtnbdbackup.0"];
    assert_eq!(vmstream(&golden.plain(), &args).status.code(), Some(0));
}

#[test]
fn a_raw_disk_of_an_old_full_is_said_to_be_old() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["extract", ".", "--disk", "vdb", "-o", "../vdb.raw"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(text(&done.stderr).contains("its content is that of virtnbdbackup.0"));
}

#[test]
fn wishes_that_cannot_be_met_are_explained() {
    let golden = Golden::extract();
    let cases: [(&[&str], &str); 6] = [
        (&["--disk", "vda", "-o", "-", "--format", "qcow2"], "takes the raw format only"),
        (&["--disk", "vdx", "-o", "x"], "it has vda, vdb"),
        (&["--disk", "vda", "-o", "x", "--until", "virtnbdbackup.9"], "has no restore point virtnbdbackup.9"),
        (&["--disk", "vda", "-o", "x", "--until", "yesterday"], "names no restore point"),
        (&["--disk", "../vda", "-o", "x"], "is no disk target"),
        (&["--disk", "vda", "-o", "no/such/folder/x"], "No such file or directory"),
    ];
    for (args, want) in cases {
        let args = [&["extract", "."], args].concat();
        let done = vmstream(&golden.lz4(), &args);
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        assert!(text(&done.stderr).contains(want), "{args:?}: {}", text(&done.stderr));
    }
}

#[test]
fn a_damaged_chain_gives_no_image() {
    let golden = Golden::extract();
    let stream = golden.lz4().join("vda.inc.virtnbdbackup.2.data");
    let mut bytes = std::fs::read(&stream).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stream, bytes).unwrap();
    let done = vmstream(&golden.lz4(), &["extract", ".", "--disk", "vda", "-o", "../out.raw"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("vda.inc.virtnbdbackup.2.data"));
    for left in ["../out.raw", "../out.raw.partial"] {
        assert!(!golden.lz4().join(left).exists());
    }
    let args = ["extract", ".", "--disk", "vda", "-o", "../out.raw", "--until", "virtnbdbackup.1"];
    assert_eq!(vmstream(&golden.lz4(), &args).status.code(), Some(0));
}
