//! Every disk of the golden sets at every point, against the hashes recorded on the live VM.

use crate::golden::Golden;
use crate::program::wait_until_free;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use vmstream::chain::{BackupSet, PointId};
use vmstream::restore::{ExtractError, ExtractOptions, Format, NewFileError, extract};

const OPTIONS: ExtractOptions = ExtractOptions {
    replace: false,
    format: Format::Raw,
    check: true,
    workers: NonZeroUsize::new(3).unwrap(),
};

fn sha256(path: &Path) -> String {
    let done = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// The lines `POINT DISK HASH` of a set's record.
fn recorded(path: &Path) -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(path).unwrap();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    text.lines().map(words).collect()
}

fn check(golden: &Golden, dir: &Path, point: &str, disk: &str, want: &str) {
    let set = BackupSet::open(dir).unwrap();
    let out = golden.root().join(format!("{disk}.{point}.raw"));
    extract(&set, &disk.parse().unwrap(), point.parse().unwrap(), &out, OPTIONS, &()).unwrap();
    assert_eq!(sha256(&out), want, "{disk} at {point}");
}

#[test]
fn the_lz4_chain_gives_every_point_back() {
    let golden = Golden::extract();
    let lines = recorded(&golden.root().join("lz4/sha256.live"));
    assert_eq!(lines.len(), 10);
    for [point, disk, want] in lines {
        let point = match point.strip_prefix("point") {
            Some(number) => format!("virtnbdbackup.{number}"),
            None => continue,
        };
        check(&golden, &golden.lz4(), &point, &disk, &want);
    }
}

#[test]
fn the_plain_chain_and_its_difference_come_back() {
    let golden = Golden::extract();
    let lines = recorded(&golden.root().join("plain/sha256.live"));
    assert_eq!(lines.len(), 6);
    for [point, disk, want] in lines {
        let point = match point.as_str() {
            "full" => "virtnbdbackup.0",
            "inc1" => "virtnbdbackup.1",
            _ => "diff.1795377788",
        };
        check(&golden, &golden.plain(), point, &disk, &want);
    }
}

#[test]
fn the_copy_equals_the_disks_after_the_difference() {
    let golden = Golden::extract();
    let lines = recorded(&golden.root().join("plain/sha256.live"));
    let [_, _, vda] = lines.iter().find(|[point, disk, _]| point == "diff" && disk == "vda").unwrap();
    check(&golden, &golden.copy(), "copy", "vda", vda);
    // The raw disk has changed since the chain (which copied it with its full only): the copy is its own record.
    let vdb = sha256(&golden.copy().join("vdb.copy.data"));
    check(&golden, &golden.copy(), "copy", "vdb", &vdb);
}

#[test]
fn golden_sets_are_whole_and_in_order() {
    let golden = Golden::extract();
    for (dir, points) in [(golden.lz4(), 4), (golden.plain(), 3), (golden.copy(), 1)] {
        let set = BackupSet::open(&dir).unwrap();
        assert_eq!(set.points.len(), points);
        assert_eq!(set.disks().len(), 2);
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        assert!(set.points.iter().all(|point| point.vmconfig.is_some()));
    }
    let newest = BackupSet::open(&golden.plain()).unwrap().newest().unwrap().id;
    assert_eq!(newest, PointId::Diff(1_795_377_788));
}

#[test]
fn an_existing_file_stays_unless_replacing_is_allowed() {
    let golden = Golden::extract();
    let set = BackupSet::open(&golden.plain()).unwrap();
    let out = golden.root().join("out.raw");
    std::fs::write(&out, "precious").unwrap();
    let run = |replace| {
        let options = ExtractOptions { replace, ..OPTIONS };
        extract(&set, &"vda".parse().unwrap(), set.newest().unwrap().id, &out, options, &())
    };
    assert!(matches!(run(false), Err(ExtractError::NewFile(NewFileError::Exists { .. }))));
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    wait_until_free(&out);
    run(true).unwrap();
    assert_eq!(std::fs::metadata(&out).unwrap().len(), 41_943_040);
    assert!(!golden.root().join("out.raw.partial").exists());
}
