//! A point exchanged for one of another backup is found, and the blame lands on it.

use super::set_up::{
    NEWEST, at, chain, convert_to, damaged, extracted, files_of, remove, take, verified, worths,
};
use std::fs;
use std::path::PathBuf;
use vmstream::chain::{BackupSet, CheckpointName, SetProblem, cpt};
use vmstream::convert::Shape;
use vmstream::restore::ExtractError;
use vmstream::verify::{Depth, DiskVerdict, Verdict, Worth};

/// A point replaced by the same point of another chain of the VM, alone or with all that lies beside it.
#[test]
fn a_point_of_another_chain_is_damage_from_there_on() {
    for with_all in [false, true] {
        for number in 0..=NEWEST {
            let (set, other) = (chain(NEWEST + 1, 1, "<one/>"), chain(NEWEST + 1, 7, "<other/>"));
            let (own, beside) = files_of(number);
            take(&own, &other, &set);
            if with_all {
                take(&beside, &other, &set);
            }
            let blamed = set.path(&own[0]);
            let want: Vec<_> =
                (0..=NEWEST).map(|at| if at < number { Worth::Proven } else { Worth::Damaged }).collect();
            for depth in [Depth::Quick, Depth::Content, Depth::Deep] {
                let report = verified(set.dir(), depth);
                assert_eq!(worths(&report), want, "{number} {with_all} {depth:?} {:?}", report.findings);
                // Whose list speaks of them says that what came along is of elsewhere too.
                let came_along =
                    own.iter().chain(beside.iter().filter(|_| with_all)).map(|name| set.path(name));
                let (blame, came_along) = (damaged(&report), came_along.collect::<Vec<_>>());
                assert!(blame.contains(&blamed), "{number} {with_all} {depth:?} {:?}", report.findings);
                assert!(
                    blame.iter().all(|path| came_along.contains(path)),
                    "{number} {with_all} {depth:?} {blame:?}"
                );
            }
            let new = tempfile::tempdir().unwrap();
            for point in 0..=NEWEST {
                let right = point < number;
                let image = extracted(set.dir(), "vda", at(point), true);
                assert_eq!(image.is_ok(), right, "{number} {point}");
                assert!(image.map_or(true, |image| image == set.disks[point as usize]));
                assert!(extracted(set.dir(), "vda", at(point), false).is_ok());
                let to = new.path().join(format!("full-{point}"));
                let full = convert_to(set.dir(), Shape::Full(at(point)), &to, true);
                assert!(full.as_ref().map_or_else(|error| error.is_damage(), |()| true));
                assert_eq!(full.is_ok(), right, "{number} {point} {full:?}");
            }
            let again = convert_to(set.dir(), Shape::SamePoints, &new.path().join("again"), false);
            assert!(again.unwrap_err().is_damage());
        }
    }
}

#[test]
fn of_two_points_the_files_beside_tell_which_was_exchanged() {
    for number in [0, 1] {
        let (set, other) = (chain(2, 1, "<one/>"), chain(2, 7, "<other/>"));
        let (own, beside) = files_of(number);
        take(&own, &other, &set);
        let first = if number == 0 { Worth::Damaged } else { Worth::Proven };
        assert_eq!(worths(&verified(set.dir(), Depth::Content)), [first, Worth::Damaged], "{number}");
        // With them nobody can tell, but for the image that came with the full.
        take(&beside, &other, &set);
        let report = verified(set.dir(), Depth::Content);
        let first = if number == 0 { Worth::Damaged } else { Worth::Unproven };
        assert_eq!(worths(&report), [first, Worth::Damaged], "{number} {:?}", report.findings);
    }
}

#[test]
fn an_image_of_another_backup_is_known_by_the_files_that_its_sidecar_lists() {
    let (set, other) = (chain(2, 1, "<one/>"), chain(2, 7, "<other/>"));
    take(&["vdb.copy.data".to_owned(), "vdb.copy.idx".to_owned()], &other, &set);
    for depth in [Depth::Quick, Depth::Content] {
        let report = verified(set.dir(), depth);
        assert_eq!(worths(&report), [Worth::Damaged, Worth::Damaged], "{:?}", report.findings);
        assert_eq!(damaged(&report), [set.path("vdb.copy.data")]);
    }
    assert!(matches!(extracted(set.dir(), "vdb", at(0), true), Err(ExtractError::Misplaced { .. })));
    assert!(extracted(set.dir(), "vdb", at(0), false).unwrap() == other.raw);
    assert!(extracted(set.dir(), "vda", at(1), true).unwrap() == set.disks[1]);
}

#[test]
fn what_a_replaced_stream_holds_its_old_sidecar_still_tells() {
    // Two chains that differ in one increment.
    let (set, other) = (chain(NEWEST + 1, 1, ""), chain(NEWEST + 1, 7, ""));
    for name in ["vda.inc.virtnbdbackup.2.data", "vda.inc.virtnbdbackup.2.data.chksum"] {
        fs::copy(other.path(name), set.path(name)).unwrap();
    }
    assert_eq!(verified(set.dir(), Depth::Content).verdict(), Verdict::Good);
    let report = verified(set.dir(), Depth::Deep);
    let want = [Worth::Proven, Worth::Proven, Worth::Damaged, Worth::Damaged];
    assert_eq!(worths(&report), want, "{:?}", report.findings);
    assert_eq!(damaged(&report), [set.path("vda.inc.virtnbdbackup.2.data")]);
}

/// It moves the streams away and knows no sidecars.
#[test]
fn sidecars_that_an_old_program_left_say_nothing_of_its_new_chain() {
    let other = chain(NEWEST + 1, 7, "");
    for points in 1..=NEWEST {
        let set = chain(NEWEST + 1, 1, "");
        remove(set.dir(), |name| name.starts_with("vdb."));
        for number in 0..points {
            take(&files_of(number).0[..2], &other, &set);
        }
        for number in points..=NEWEST {
            files_of(number).0[..2].iter().for_each(|name| fs::remove_file(set.path(name)).unwrap());
            files_of(number).1.iter().for_each(|name| fs::remove_file(set.path(name)).unwrap());
            fs::remove_file(set.path(&files_of(number).0[3])).unwrap();
        }
        let names: Vec<_> = (0..points).map(CheckpointName::new).collect();
        fs::write(set.path("web.cpt"), cpt::encode(&names)).unwrap();
        let report = verified(set.dir(), Depth::Deep);
        assert_eq!(damaged(&report), Vec::<PathBuf>::new(), "{points} {:?}", report.findings);
        assert_eq!(worths(&report), vec![Worth::Proven; points as usize], "{:?}", report.findings);
    }
}

/// Each of the numbers whose bit is set.
fn numbers(bits: u32) -> impl Iterator<Item = u32> {
    (0..=NEWEST).filter(move |number| bits & 1 << number != 0)
}

/// Any points of a chain exchanged for those of another one of the same VM, with any of the files beside them, with and
/// without a raw image.
#[test]
fn whatever_was_exchanged_no_innocent_file_is_blamed_and_no_mixed_point_is_good() {
    let other = chain(NEWEST + 1, 7, "<other/>");
    for (exchanged, along, image) in (0..16)
        .flat_map(|own| (0..16).map(move |along| (own, along)))
        .flat_map(|(own, along)| [true, false].map(|image| (own, along, image)))
    {
        let set = chain(NEWEST + 1, 1, "<one/>");
        numbers(exchanged).for_each(|number| take(&files_of(number).0, &other, &set));
        numbers(along).for_each(|number| take(&files_of(number).1, &other, &set));
        if !image {
            remove(set.dir(), |name| name.starts_with("vdb.copy."));
        }
        let case = format!("{exchanged:04b} with {along:04b}, image {image}");
        let found = BackupSet::open(set.dir()).unwrap();
        let report = verified(set.dir(), Depth::Quick);
        let is_theirs = |number: u32| exchanged & 1 << number != 0;
        let blamed: Vec<u32> = (0..=NEWEST)
            .filter(|number| {
                let own = set.path(&files_of(*number).0[0]);
                found
                    .problems
                    .iter()
                    .any(|problem| matches!(problem, SetProblem::Exchanged { path, .. } if *path == own))
            })
            .collect();
        let mixed = |point: u32| (0..=point).any(|number| is_theirs(number) != is_theirs(0));
        let disks: Vec<_> = report.points.iter().map(|point| &point.disks[&"vda".parse().unwrap()]).collect();
        for point in 0..=NEWEST {
            let is_lost = matches!(disks[point as usize], DiskVerdict::Lost { .. });
            assert!(is_lost || !mixed(point), "{case}: {point} {:?}", found.problems);
        }
        let is_clean = exchanged == 0 || (exchanged == 15 && !image);
        assert!(
            !is_clean || blamed.is_empty() && disks.iter().all(|disk| **disk == DiskVerdict::Good),
            "{case}"
        );
        // All that is blamed is of one of the two.
        assert!(blamed.iter().all(|number| is_theirs(*number) == is_theirs(blamed[0])), "{case}: {blamed:?}");
        // Whose files are at home here: those that others beside them tell, else those at more of the points.
        let theirs = numbers(exchanged).count();
        let ours = (0..=NEWEST).filter(|number| !is_theirs(*number) || (image && *number == 0)).count();
        let home_is_theirs = match along {
            0 => Some(false),
            _ if along == exchanged && theirs == ours => None,
            _ if along == exchanged => Some(theirs > ours),
            // Nobody could say of such a set whose it is.
            _ => continue,
        };
        let Some(home_is_theirs) = home_is_theirs else {
            assert_eq!(blamed, [0; 0], "{case}");
            assert!(disks.iter().all(|disk| **disk != DiskVerdict::Good), "{case} {disks:?}");
            continue;
        };
        let want: Vec<u32> = (0..=NEWEST).filter(|number| is_theirs(*number) != home_is_theirs).collect();
        assert!(blamed == want || is_clean, "{case}: {blamed:?}, not {want:?}");
        for point in (0..=NEWEST).filter(|point| (0..=*point).any(|number| want.contains(&number))) {
            assert!(is_clean || matches!(disks[point as usize], DiskVerdict::Lost { .. }), "{case}: {point}");
        }
    }
}
