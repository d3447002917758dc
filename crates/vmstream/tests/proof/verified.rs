//! Verification, to the byte: what it finds, what it names, what it proves.

use super::set_up::{findings, flip, good_points, verify};
use crate::ours::{Change, DISK, GRANULE, Ours};
use random::Random;
use std::fs;
use std::time::{Duration, Instant};
use vmstream::stream::{FrameKind, StreamFile};
use vmstream::verify::{Depth, Level, Proof, Verdict};

#[test]
fn a_whole_set_is_proven_at_every_depth() {
    for level in [None, Some(1)] {
        let ours = Ours::new(level);
        for depth in [Depth::Quick, Depth::Content, Depth::Deep] {
            let report = verify(ours.dir(), depth);
            assert_eq!((report.verdict(), findings(&report)), (Verdict::Good, vec![]), "{depth:?}");
            if depth != Depth::Quick {
                assert!(report.streams.iter().all(|stream| stream.proof == Some(Proof::Sidecar)));
                assert_eq!(report.proven_images, 1);
            }
            if depth == Depth::Deep {
                let of_vda = report.digests.iter().filter(|found| found.disk.as_str() == "vda");
                let proven: Vec<_> =
                    of_vda.map(|found| found.checked.clone().unwrap().proven_bytes).collect();
                assert_eq!(proven, [DISK as u64; 3]);
            }
        }
    }
}

/// The promise: of a set of ours, no changed byte in any file passes the default verification.
#[test]
fn no_flipped_byte_of_any_file_passes() {
    let mut random = Random::from_environment("SEED");
    for level in [None, Some(1)] {
        let ours = Ours::new(level);
        for path in ours.files() {
            let good = fs::read(&path).unwrap();
            // Payloads are long and all alike; of small files every byte is tried in some runs.
            let step = if good.len() > 20_000 { 997 } else { good.len() / 100 + 1 };
            for at in (random.index(step)..good.len()).step_by(step) {
                let mut bad = good.clone();
                bad[at] ^= 1 << random.below(8);
                fs::write(&path, &bad).unwrap();
                let found = verify(ours.dir(), Depth::Content);
                assert_eq!(found.verdict(), Verdict::Damaged, "{} byte {at}: {found:#?}", path.display());
            }
            fs::write(&path, &good).unwrap();
            fs::remove_file(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            // The newest sidecar of a disk is the one that nothing names.
            if !name.ends_with(".idx") {
                assert_eq!(verify(ours.dir(), Depth::Content).verdict(), Verdict::Damaged, "{name} deleted");
            } else if name != "vda.inc.virtnbdbackup.2.idx" && name != "vdb.copy.idx" {
                assert_ne!(findings(&verify(ours.dir(), Depth::Content)).len(), 0, "{name} deleted");
            }
            fs::write(&path, &good).unwrap();
        }
    }
}

#[test]
fn a_flipped_byte_of_plain_content_is_named_to_the_block() {
    let ours = Ours::new(None);
    let path = ours.path("vda.inc.virtnbdbackup.1.data");
    let stream = StreamFile::open(&path).unwrap();
    let frame =
        stream.frames().map(Result::unwrap).find(|frame| frame.header.kind == FrameKind::Data).unwrap();
    flip(&path, frame.stored_at as usize + 4000);
    let report = verify(ours.dir(), Depth::Content);
    let named = report.findings.iter().find(|finding| finding.frame.is_some()).unwrap();
    assert_eq!(
        (named.frame, named.at, named.disk_range.clone()),
        (Some(0), Some(frame.stored_at), Some(frame.disk()))
    );
    assert_eq!(good_points(&report), 1);
    // The raw disk too, to the granule.
    let ours = Ours::new(None);
    flip(&ours.path("vdb.copy.data"), GRANULE + 3);
    let report = verify(ours.dir(), Depth::Content);
    let range = GRANULE as u64..GRANULE as u64 + 512;
    assert_eq!(findings(&report)[0].disk_range, Some(range));
    assert_eq!(good_points(&report), 0);
}

#[test]
fn a_damaged_checksum_file_is_told_from_a_damaged_stream() {
    let ours = Ours::new(Some(1));
    fs::write(ours.path("vda.full.data.chksum"), "4711").unwrap();
    let report = verify(ours.dir(), Depth::Content);
    let damage: Vec<_> = findings(&report).iter().map(|finding| finding.path.clone()).collect();
    assert_eq!((damage, good_points(&report)), (vec![ours.path("vda.full.data.chksum")], 3));
}

#[test]
fn a_damaged_sidecar_costs_no_point() {
    let ours = Ours::new(Some(1));
    flip(&ours.path("vda.full.idx"), 40);
    let report = verify(ours.dir(), Depth::Deep);
    assert_eq!((report.verdict(), good_points(&report)), (Verdict::Damaged, 3));
    // What the increments brought is proven all the same.
    let newest = report.digests.iter().rfind(|found| found.disk.as_str() == "vda").unwrap();
    assert_eq!(newest.checked.as_ref().unwrap().proven_bytes, 2 * GRANULE as u64);
}

#[test]
fn a_replaced_stream_is_a_warning() {
    for depth in [Depth::Quick, Depth::Content, Depth::Deep] {
        let ours = Ours::new(Some(1));
        // As another program would write it: the same disk at another level, no sidecar.
        let other = Ours::new(Some(9));
        for name in ["vda.inc.virtnbdbackup.1.data", "vda.inc.virtnbdbackup.1.data.chksum"] {
            fs::copy(other.path(name), ours.path(name)).unwrap();
        }
        let report = verify(ours.dir(), depth);
        let levels: Vec<_> = findings(&report).iter().map(|finding| finding.level).collect();
        assert_eq!(
            (report.verdict(), good_points(&report)),
            (Verdict::Good, 3),
            "{depth:?} {:#?}",
            report.findings
        );
        assert!(!levels.is_empty() && levels.iter().all(|level| *level == Level::Warning), "{depth:?}");
        // Left behind without any stream.
        let ours = Ours::new(Some(1));
        fs::rename(ours.path("vda.full.idx"), ours.path("vdc.full.idx")).unwrap();
        assert_eq!(verify(ours.dir(), depth).verdict(), Verdict::Good);
    }
}

#[test]
fn streams_that_are_whole_and_wrong_together_are_found_by_a_deep_look() {
    let mut ours = Ours::new(Some(1));
    let mut disk = ours.disks[2].clone();
    // Zeroed by the guest, and not written by a faulty program.
    disk[..GRANULE].fill(0);
    ours.add(disk, &[Change::Forgotten(0..GRANULE), Change::Data(3 * GRANULE..3 * GRANULE + 512)]);
    assert_eq!(verify(ours.dir(), Depth::Content).verdict(), Verdict::Good);
    let report = verify(ours.dir(), Depth::Deep);
    let wrong = findings(&report)[0];
    assert_eq!(wrong.disk_range, Some(0..GRANULE as u64));
    assert!(wrong.path.ends_with("vda.inc.virtnbdbackup.3.data"));
    assert_eq!((report.verdict(), good_points(&report)), (Verdict::Damaged, 3));
}

#[test]
fn a_quick_look_at_a_thousand_files_with_sidecars_takes_less_than_a_second() {
    let mut ours = Ours::empty(None);
    let disk = vec![1; DISK];
    ours.add(disk.clone(), &[Change::Data(0..DISK)]);
    for number in 1..250 {
        ours.add(disk.clone(), &[Change::Data(number * 512..number * 512 + 512)]);
    }
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(verify(ours.dir(), Depth::Quick).verdict(), Verdict::Good);
            start.elapsed()
        })
        .min();
    // 250 points of a stream, a checksum file, a sidecar and a domain XML, and what is only listed.
    assert!(best < Some(Duration::from_secs(1)), "{best:?}");
}
