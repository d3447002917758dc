//! What may be of another backup is given out only without the check, and claims nothing then.

use super::set_up::{NEWEST, at, chain, convert_to, damaged, files_of, take, verified, worths};
use crate::ours::Ours;
use crate::program::{text, vmstream};
use serde_json::Value;
use std::fs;
use std::path::Path;
use vmstream::chain::{BackupSet, DiskContent, SetProblem};
use vmstream::convert::Shape;
use vmstream::sidecar::Value as Granule;
use vmstream::verify::{Depth, Worth};

#[test]
fn what_may_be_of_another_backup_is_given_out_by_nobody_and_blamed_on_nothing() {
    let (set, other) = (chain(2, 1, "<one/>"), chain(2, 7, "<other/>"));
    let (own, beside) = files_of(1);
    take(&own, &other, &set);
    take(&beside, &other, &set);
    let found = BackupSet::open(set.dir()).unwrap();
    assert!(!found.problems.iter().any(|problem| matches!(problem, SetProblem::Exchanged { .. })));
    assert_eq!(damaged(&verified(set.dir(), Depth::Content)), [set.path(&own[0])]);
    let new = tempfile::tempdir().unwrap();
    let (full, image) = (new.path().join("full"), new.path().join("image"));
    let squash = ["convert", ".", "--squash", "--until", "0", "--to", full.to_str().unwrap()];
    let extract = ["extract", ".", "--disk", "vda", "--until", "0", "-o", image.to_str().unwrap()];
    for args in [&squash[..], &extract[..]] {
        let refused = vmstream(set.dir(), args);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("contradict each other"), "{}", text(&refused.stderr));
        let made = vmstream(set.dir(), &[args, &["--no-check"]].concat());
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    }
    assert!(fs::read(&image).unwrap() == set.disks[0]);
    let later =
        vmstream(set.dir(), &["extract", ".", "--disk", "vda", "-o", image.to_str().unwrap(), "--force"]);
    assert_eq!(later.status.code(), Some(1), "{}", text(&later.stderr));
    assert!(text(&later.stderr).contains("goes on from another backup"), "{}", text(&later.stderr));
    // An image and a full that contradict each other, and nothing else: no damage, and no proof.
    let (set, other) = (chain(1, 1, "<one/>"), chain(1, 7, "<other/>"));
    take(&["vdb.copy.data".to_owned(), "vdb.copy.idx".to_owned()], &other, &set);
    take(&files_of(0).1[..1], &other, &set);
    let again = convert_to(set.dir(), Shape::SamePoints, &new.path().join("again"), true).unwrap_err();
    assert!(!again.is_damage(), "{again}");
    let alone = new.path().join("alone");
    let squash = ["convert", ".", "--squash", "--to", alone.to_str().unwrap()];
    let refused = vmstream(set.dir(), &squash);
    assert!(text(&refused.stderr).contains("contradict each other"), "{}", text(&refused.stderr));
    let made = vmstream(set.dir(), &[&squash[..], &["--no-check"]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("is made of it all the same"), "{}", text(&made.stderr));
    assert_eq!((known(&alone), known_of(&alone, "vdb")), (vec![false; 6], vec![false; 2]));
    assert_eq!(worths(&verified(set.dir(), Depth::Quick)), [Worth::Unproven]);
}

#[test]
fn a_map_of_what_is_of_another_backup_is_drawn_only_without_the_check() {
    let map =
        |set: &Ours, more: &[&str]| vmstream(set.dir(), &[&["map", ".", "--disk", "vda"], more].concat());
    let (set, other) = (chain(NEWEST + 1, 1, "<one/>"), chain(NEWEST + 1, 7, "<other/>"));
    take(&files_of(2).0, &other, &set);
    for json in [&[][..], &["--json"]] {
        for (until, code) in [("1", 0), ("2", 1), ("3", 1)] {
            let told = map(&set, &[&["--until", until], json].concat());
            assert_eq!(told.status.code(), Some(code), "{until} {json:?} {}", text(&told.stderr));
            assert!(text(&told.stderr).contains("do not go on from each other"), "{}", text(&told.stderr));
            if !json.is_empty() {
                let value: Value = serde_json::from_slice(&told.stdout).unwrap();
                assert_eq!(value["schema"] == "vmstream/error/1", code == 1, "{value}");
            }
        }
        let drawn = map(&set, &[&["--no-check"], json].concat());
        assert_eq!(drawn.status.code(), Some(0), "{}", text(&drawn.stderr));
    }
    // Nobody can tell which of the two is at home.
    let (set, other) = (chain(2, 1, "<one/>"), chain(2, 7, "<other/>"));
    let (own, beside) = files_of(1);
    take(&own, &other, &set);
    take(&beside, &other, &set);
    let told = map(&set, &["--until", "0"]);
    assert_eq!(told.status.code(), Some(2), "{}", text(&told.stderr));
}

#[test]
fn a_full_that_is_made_all_the_same_claims_nothing_that_was_not_known() {
    let (set, other) = (chain(NEWEST + 1, 1, "<one/>"), chain(NEWEST + 1, 7, "<other/>"));
    take(&files_of(1).0, &other, &set);
    let new = tempfile::tempdir().unwrap();
    let to = new.path().join("full");
    let args = ["convert", ".", "--squash", "--to", to.to_str().unwrap()];
    let refused = vmstream(set.dir(), &args);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("is of another backup"), "{}", text(&refused.stderr));
    let made = vmstream(set.dir(), &[&args[..], &["--no-check"]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("is made of it all the same"), "{}", text(&made.stderr));
    assert!(!text(&made.stderr).contains("not needed"), "{}", text(&made.stderr));
    // What the two points behind the one that was exchanged brought is right.
    assert_eq!(known(&to), [false, false, true, true, false, false]);
}

/// Of each granule of `vda`, whether the sidecar of the full claims to know it.
fn known(dir: &Path) -> Vec<bool> {
    known_of(dir, "vda")
}

/// The same of any disk of a full.
fn known_of(dir: &Path, disk: &str) -> Vec<bool> {
    let full = BackupSet::open(dir).unwrap();
    let sidecar = match full.content(&disk.parse().unwrap(), at(0)).unwrap() {
        DiskContent::Streams(entries) => entries[0].whole_sidecar(),
        DiskContent::Raw { image, .. } => image.whole_sidecar(),
    };
    let sidecar = sidecar.unwrap().unwrap();
    let granules = sidecar.head().granules;
    let runs: Vec<_> = sidecar.runs().map(Result::unwrap).collect();
    let values: Vec<_> =
        runs.iter().flat_map(|run| run.numbers().map(|number| run.value(number, granules))).collect();
    (0..granules.count()).map(|number| values[number as usize] != Granule::Unknown).collect()
}

#[test]
fn a_full_that_is_made_of_what_is_in_doubt_says_so_and_proves_nothing() {
    let new = tempfile::tempdir().unwrap();
    let made = |set: &Ours, until: &str, name: &str| {
        let to = new.path().join(name);
        let args = ["convert", ".", "--squash", "--until", until, "--no-check", "--json", "--to"];
        let done = vmstream(set.dir(), &[&args[..], &[to.to_str().unwrap()]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        let warnings = json["warnings"].as_array().unwrap().clone();
        for warning in &warnings {
            assert!(text(&done.stderr).contains(warning.as_str().unwrap()), "{}", text(&done.stderr));
        }
        (to, warnings.into_iter().map(|warning| warning.as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let says = |warnings: &[String], file: &str, what: &str| {
        warnings.iter().any(|warning| warning.contains(file) && warning.contains(what))
    };
    // Of two points one is of another backup, and nobody can tell which.
    let (set, other) = (chain(2, 1, "<one/>"), chain(2, 7, "<other/>"));
    let (own, beside) = files_of(1);
    take(&own, &other, &set);
    take(&beside, &other, &set);
    let (to, warnings) = made(&set, "0", "older");
    for file in ["vda.full.data", "vdb.copy.data"] {
        assert!(says(&warnings, file, "contradict each other"), "{file} {warnings:?}");
    }
    assert!(fs::read(to.join("vdb.copy.data")).unwrap() == set.raw);
    assert_eq!((known(&to), known_of(&to, "vdb")), (vec![false; 6], vec![false; 2]));
    let (to, warnings) = made(&set, "1", "newer");
    assert!(says(&warnings, &own[0], "goes on from another backup"), "{warnings:?}");
    assert_eq!(known(&to), [false; 6]);
    // Where the newest is the one that was exchanged, what its sidecar knows is of the other backup.
    let (set, other) = (chain(NEWEST + 1, 1, "<one/>"), chain(NEWEST + 1, 7, "<other/>"));
    take(&files_of(NEWEST).0, &other, &set);
    let (to, warnings) = made(&set, "3", "foreign");
    assert!(says(&warnings, &files_of(NEWEST).0[0], "is of another backup"), "{warnings:?}");
    assert_eq!((known(&to), known_of(&to, "vdb")), (vec![false; 6], vec![true; 2]));
    // So of an image that is of another backup.
    let (set, other) = (chain(2, 1, "<one/>"), chain(2, 7, "<other/>"));
    take(&["vdb.copy.data".to_owned(), "vdb.copy.idx".to_owned()], &other, &set);
    let (to, warnings) = made(&set, "1", "foreign-image");
    assert!(says(&warnings, "vdb.copy.data", "is of another backup"), "{warnings:?}");
    assert_eq!((known(&to), known_of(&to, "vdb")), (vec![true; 6], vec![false; 2]));
}
