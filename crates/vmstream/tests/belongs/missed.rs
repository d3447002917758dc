//! What is gone, and proofs that are: each is missed where others say that it was there.

use super::set_up::{NEWEST, at, chain, convert_to, damaged, lost, remove, verified, worths};
use crate::golden::Golden;
use crate::program::{text, vmstream};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use vmstream::convert::Shape;
use vmstream::verify::{Depth, Level, Verdict, Worth};

#[test]
fn a_sidecar_that_is_gone_where_others_are_is_missed() {
    for name in ["vda.full.idx", "vda.inc.virtnbdbackup.1.idx", "vda.inc.virtnbdbackup.3.idx", "vdb.copy.idx"]
    {
        let set = chain(NEWEST + 1, 1, "");
        fs::remove_file(set.path(name)).unwrap();
        let report = verified(set.dir(), Depth::Content);
        let file = set.path(&name.replace(".idx", ".data"));
        let missed = |found: &&vmstream::verify::Finding| {
            found.path == file && found.message.contains("has no sidecar")
        };
        assert_eq!(report.findings.iter().filter(missed).count(), 1, "{name} {:?}", report.findings);
        assert_eq!(damaged(&report), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_disk_of_which_nothing_is_left_is_missed() {
    let all: Vec<_> = (0..4).map(|number| at(number).to_string()).collect();
    // A list in the sidecars decides.
    let golden = Golden::extract();
    let listed = golden.root().join("listed");
    convert_to(&golden.lz4(), Shape::SamePoints, &listed, true).unwrap();
    assert_eq!(verified(&listed, Depth::Content).verdict(), Verdict::Good);
    remove(&listed, |name| name.starts_with("vdb."));
    let report = verified(&listed, Depth::Quick);
    assert_eq!((report.verdict(), lost(&report)), (Verdict::Damaged, all.clone()), "{:?}", report.findings);
    // What a killed run of another kind left of the disk excuses nothing.
    fs::write(listed.join("vdb.copy.data.partial"), b"half").unwrap();
    assert_eq!(lost(&verified(&listed, Depth::Quick)), all);
    fs::remove_file(listed.join("vdb.copy.data.partial")).unwrap();
    assert!(
        convert_to(&listed, Shape::Full(at(3)), &golden.root().join("full"), true).unwrap_err().is_damage()
    );
    // Of an image too, which is at the first point alone.
    let set = chain(2, 1, "");
    remove(set.dir(), |name| name.starts_with("vdb."));
    let report = verified(set.dir(), Depth::Quick);
    assert_eq!(
        (report.verdict(), lost(&report)),
        (Verdict::Damaged, all[..2].to_vec()),
        "{:?}",
        report.findings
    );
    // Without one the definition does, where the disk was there before.
    let golden = Golden::extract();
    remove(&golden.lz4(), |name| name.starts_with("vda.") && name.contains("virtnbdbackup.3"));
    let report = verified(&golden.lz4(), Depth::Quick);
    assert_eq!(
        (report.verdict(), lost(&report)),
        (Verdict::Damaged, all[3..].to_vec()),
        "{:?}",
        report.findings
    );
    // It may have been left out: that is said, and no more.
    let golden = Golden::extract();
    remove(&golden.lz4(), |name| name.starts_with("vdb."));
    let report = verified(&golden.lz4(), Depth::Content);
    let said = |found: &vmstream::verify::Finding| {
        found.level == Level::Warning && found.message.contains("Disk vdb is in")
    };
    assert_eq!((report.verdict(), report.findings.len()), (Verdict::Good, 1), "{:?}", report.findings);
    assert!(report.findings.iter().all(said), "{:?}", report.findings);
}

#[test]
fn a_checksum_file_that_is_damaged_proves_no_stream() {
    let golden = Golden::extract();
    fs::remove_file(golden.plain().join("vdb.copy.data")).unwrap();
    fs::write(golden.plain().join("vda.inc.virtnbdbackup.1.data.chksum"), "none").unwrap();
    let report = verified(&golden.plain(), Depth::Content);
    let want = [Worth::Proven, Worth::Unproven, Worth::Unproven];
    assert_eq!(worths(&report), want, "{:?}", report.findings);
}

#[test]
fn one_stream_that_is_proven_proves_no_other() {
    let golden = Golden::extract();
    fs::remove_file(golden.plain().join("vdb.copy.data")).unwrap();
    fs::remove_file(golden.plain().join("vda.inc.virtnbdbackup.1.data.chksum")).unwrap();
    let shown = vmstream(&golden.plain(), &["verify", "."]);
    let want =
        "\nplain in .: UNPROVEN, 3 restore points: 1 proven, 2 unproven (3 streams, 512 KiB\n  of content)\n";
    assert!(text(&shown.stdout).ends_with(want), "{}", text(&shown.stdout));
    assert_eq!(shown.status.code(), Some(2));
    let json: Value =
        serde_json::from_slice(&vmstream(&golden.plain(), &["verify", "--json", "."]).stdout).unwrap();
    assert_eq!(json["sets"][0]["proven_points"], serde_json::json!(["virtnbdbackup.0"]));
    assert_eq!(json["verdict"], "cannot-tell");
    let path = golden.plain().join("vda.diff.1795377788.data");
    fs::write(&path, &fs::read(&path).unwrap()[1..]).unwrap();
    let shown = vmstream(&golden.plain(), &["verify", "."]);
    let want = "\nplain in .: DAMAGED, 3 restore points: 1 proven, 1 unproven, 1 damaged (3\n  streams, 448 KiB of content)\n";
    assert!(text(&shown.stdout).ends_with(want), "{}", text(&shown.stdout));
    assert_eq!(shown.status.code(), Some(1));
}

/// virtnbdbackup's usual form has nothing but checksum files.
#[test]
fn a_flipped_byte_that_only_a_checksum_file_knows_is_given_out_by_nobody() {
    let golden = Golden::extract();
    let (dir, right) = (golden.plain(), golden.root().join("right.raw"));
    let newest = vmstream(&dir, &["extract", ".", "--disk", "vda", "-o", "../right.raw"]);
    let right_at = golden.plain().join("../right.raw");
    assert_eq!(newest.status.code(), Some(0), "{}", text(&newest.stderr));
    fs::rename(&right_at, &right).unwrap();
    let image = right.to_str().unwrap();
    let extract = ["extract", ".", "--disk", "vda", "--force", "-o"];
    let runs: [Vec<&str>; 5] = [
        [&extract[..], &["../out.raw"]].concat(),
        [&extract[..], &["../out.raw", "--workers", "3"]].concat(),
        [&extract[..], &["-"]].concat(),
        vec!["compare", ".", image, "--disk", "vda"],
        vec!["map", "."],
    ];
    for run in &runs {
        let done = vmstream(&dir, run);
        assert_eq!(done.status.code(), Some(0), "{run:?} {}", text(&done.stderr));
    }
    for name in ["vda.full.data", "vda.inc.virtnbdbackup.1.data", "vda.diff.1795377788.data"] {
        let good = fs::read(dir.join(name)).unwrap();
        // The date in the meta text, content, also such that newer streams hide, and the end.
        let date = good.windows(4).position(|part| part == b"2026").unwrap();
        for at in [date + 3, good.len() / 3, good.len() / 2, good.len() - 100] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(dir.join(name), &bad).unwrap();
            for run in &runs {
                let done = vmstream(&dir, run);
                assert_eq!(done.status.code(), Some(1), "{name} byte {at} {run:?} {}", text(&done.stderr));
                assert!(text(&done.stderr).contains("checksum file says"), "{run:?} {}", text(&done.stderr));
                let ways = ["--no-check restores it all the same", "--no-check draws it all the same"];
                let way = ways.map(|way| text(&done.stderr).contains(way));
                assert_eq!(way, [run[0] == "extract", run[0] == "map"], "{run:?} {}", text(&done.stderr));
            }
            assert!(
                !dir.join("../out.raw").exists()
                    || fs::read(dir.join("../out.raw")).unwrap() == fs::read(&right).unwrap()
            );
            for run in [&runs[0], &runs[2], &runs[4]] {
                let done = vmstream(&dir, &[run.as_slice(), &["--no-check"]].concat());
                assert_eq!(done.status.code(), Some(0), "{name} byte {at} {run:?} {}", text(&done.stderr));
            }
            vmstream(
                &dir,
                &[&extract[..], &["../out.raw", "--until", "virtnbdbackup.0", "--no-check"]].concat(),
            );
            fs::remove_file(dir.join("../out.raw")).unwrap();
        }
        fs::write(dir.join(name), &good).unwrap();
        // One that is no number proves nothing, and nothing else does.
        let sum = dir.join(format!("{name}.chksum"));
        let number = fs::read(&sum).unwrap();
        fs::write(&sum, "none").unwrap();
        for run in &runs {
            let done = vmstream(&dir, run);
            assert_eq!(done.status.code(), Some(2), "{run:?} {}", text(&done.stderr));
            assert!(text(&done.stderr).contains("it does not hold a number"), "{}", text(&done.stderr));
        }
        let done = vmstream(&dir, &[&runs[0][..], &["--no-check"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        fs::write(&sum, number).unwrap();
    }
}
