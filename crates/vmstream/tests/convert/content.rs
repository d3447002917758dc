//! The same disks at every point, for every reader, whatever the compression and the shape.

use super::set_up::{converted, digests, disk_at, files, point};
use crate::chains::{Form, Link, write_chain};
use crate::golden::Golden;
use crate::peer::Release;
use std::path::Path;
use std::time::SystemTime;
use vmstream::chain::BackupSet;
use vmstream::convert::{Compression, Shape};
use vmstream::verify::DiskDigest;

#[test]
fn every_point_is_the_same_in_another_compression() {
    let golden = Golden::extract();
    for (number, compression) in
        [Compression::None, Compression::Lz4(1), Compression::Lz4(9)].into_iter().enumerate()
    {
        for (name, dir) in [("lz4", golden.lz4()), ("plain", golden.plain()), ("copy", golden.copy())] {
            let before = files(&dir);
            let new = golden.root().join(format!("{name}-{number}"));
            converted(&dir, Shape::SamePoints, &new, compression).unwrap();
            assert_eq!(digests(&new), digests(&dir), "{name} as {compression:?}");
            assert_eq!(files(&dir), before, "the original of {name}");
            // Everything beside the streams is there as it was, but Bash vmbackup's own note.
            let after = files(&new);
            for (file, (content, _)) in &before {
                let file_name = file.to_str().unwrap();
                if file_name.contains(".data") && file_name != "vdb.copy.data" {
                    assert!(after.contains_key(file), "{file_name}");
                } else if file_name != ".full-backup-month" {
                    assert!(after[file].0 == *content, "{file_name}");
                }
            }
            let is_sidecar = |file: &Path| file.extension().is_some_and(|last| last == "idx");
            assert!(after.keys().all(|file| before.contains_key(file) || is_sidecar(file)), "{name}");
        }
    }
    // One file of a point is as old as another, and the next point's are newer.
    let after = files(&golden.root().join("lz4-0"));
    let time = |file: &str| after[Path::new(file)].1;
    for number in 1..4 {
        let stream = time(&format!("vda.inc.virtnbdbackup.{number}.data"));
        assert_eq!(time(&format!("vdb.inc.virtnbdbackup.{number}.data.chksum")), stream);
        assert_eq!(time(&format!("checkpoints/virtnbdbackup.{number}.xml")), stream);
        assert!(time(&format!("vmconfig.virtnbdbackup.{}.xml", number - 1)) < stream);
    }
}

#[test]
fn a_chain_as_one_full_is_the_disk_at_its_point_under_every_reader() {
    let golden = Golden::extract();
    let cases = [
        (golden.lz4(), "virtnbdbackup.0", Compression::Lz4(1)),
        (golden.lz4(), "virtnbdbackup.1", Compression::None),
        (golden.lz4(), "virtnbdbackup.3", Compression::Lz4(9)),
        (golden.plain(), "virtnbdbackup.1", Compression::Lz4(4)),
        (golden.plain(), "diff.1795377788", Compression::Lz4(1)),
    ];
    for (number, (dir, at, compression)) in cases.into_iter().enumerate() {
        let new = golden.root().join(format!("full-{number}"));
        let before = files(&dir);
        converted(&dir, Shape::Full(point(at)), &new, compression).unwrap();
        assert_eq!(files(&dir), before);
        let of = |found: &DiskDigest| (found.disk.clone(), found.size, found.digest.clone());
        let want: Vec<_> = digests(&dir).iter().filter(|found| found.point == point(at)).map(of).collect();
        assert_eq!(digests(&new).iter().map(of).collect::<Vec<_>>(), want, "{at}");
        let set = BackupSet::open(&new).unwrap();
        let ids: Vec<_> = set.points.iter().map(|point| point.id.to_string()).collect();
        assert_eq!((ids, set.problems.len()), (vec!["virtnbdbackup.0".to_owned()], 0));
        let names = files(&new);
        assert!(
            names.keys().all(|file| !file.starts_with("checkpoints")),
            "libvirt has no checkpoint for it"
        );
        let ident = at.trim_start_matches("diff.");
        let config = &before[Path::new(&format!("vmconfig.{ident}.xml"))].0;
        assert!(&names[Path::new("vmconfig.virtnbdbackup.0.xml")].0 == config);
        assert!(names.contains_key(Path::new("vda.virtnbdbackup.0.qcow.json")));
        let disk = disk_at(&dir, "vda", point(at));
        for release in Release::ALL {
            let restored = release.restored(&new, "vda", None, &golden.root().join("restored"));
            assert!(restored == disk, "{release:?}, {at}");
        }
    }
}

#[test]
fn a_full_of_nothing_but_zeros_still_has_data_for_old_readers() {
    let dir = tempfile::tempdir().unwrap();
    let size = 40 << 20;
    let full = Link { size, alone: true, frames: vec![(0..4096, Some(vec![9; 4096])), (4096..size, None)] };
    let zeroed = Link { size, alone: false, frames: vec![(0..4096, Some(vec![0; 4096]))] };
    write_chain(
        &dir.path().join("old"),
        &[full, zeroed],
        Form { compression: None, frame_len: 4096, sidecars: false },
    );
    let new = dir.path().join("new");
    let newest = Shape::Full(point("virtnbdbackup.1"));
    converted(&dir.path().join("old"), newest, &new, Compression::Lz4(1)).unwrap();
    let stream = vmstream::stream::StreamFile::open(&new.join("vda.full.data")).unwrap();
    let frames: Vec<_> = stream.frames().map(|frame| frame.unwrap().disk()).collect();
    assert_eq!(frames, [0..size - 512, size - 512..size]);
    for release in Release::ALL {
        let restored = release.restored(&new, "vda", Some("virtnbdbackup.0"), &dir.path().join("restored"));
        assert!(restored == vec![0; size as usize], "{release:?}");
    }
}

#[test]
fn times_that_old_readers_would_misread_are_put_right() {
    let golden = Golden::extract();
    let now = SystemTime::now();
    for file in files(&golden.lz4()).keys() {
        let file = std::fs::File::open(golden.lz4().join(file)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(now)).unwrap();
    }
    assert!(!BackupSet::open(&golden.lz4()).unwrap().problems.is_empty());
    let new = golden.root().join("new");
    converted(&golden.lz4(), Shape::SamePoints, &new, Compression::Lz4(1)).unwrap();
    assert_eq!(BackupSet::open(&new).unwrap().problems.len(), 0);
}

#[test]
fn who_wrote_a_stream_can_still_be_told() {
    let golden = Golden::extract();
    let new = golden.root().join("new");
    converted(&golden.plain(), Shape::SamePoints, &new, Compression::Lz4(1)).unwrap();
    let diagnosis = |dir: &Path| vmstream::doctor::diagnose(&BackupSet::open(dir).unwrap());
    assert_eq!(diagnosis(&new), diagnosis(&golden.plain()));
    assert_eq!(diagnosis(&new).suspects.len(), 2);
    // What is ours stays ours.
    let link = |alone| Link { size: 9000, alone, frames: vec![(0..50, Some(vec![1; 50]))] };
    let ours = golden.root().join("ours");
    write_chain(
        &ours,
        &[link(true), link(false)],
        Form { compression: None, frame_len: 4096, sidecars: false },
    );
    converted(&ours, Shape::SamePoints, &golden.root().join("again"), Compression::Lz4(1)).unwrap();
    assert_eq!(diagnosis(&golden.root().join("again")).suspects, []);
}

#[test]
fn a_set_written_again_as_zstd_has_other_names_and_the_same_disks() {
    let golden = Golden::extract();
    for (name, dir) in [("lz4", golden.lz4()), ("plain", golden.plain()), ("copy", golden.copy())] {
        let new = golden.root().join(format!("{name}-zstd"));
        converted(&dir, Shape::SamePoints, &new, Compression::Zstd(3)).unwrap();
        assert_eq!(digests(&new), digests(&dir), "{name}");

        let named = |dir: &Path, end: &str| {
            files(dir).keys().filter(|file| file.extension().is_some_and(|last| last == end)).count()
        };
        let raw = files(&dir).keys().filter(|file| file.ends_with("vdb.copy.data")).count();
        assert_eq!((named(&new, "data"), named(&new, "zstd")), (raw, named(&dir, "data") - raw), "{name}");
        // And back.
        let back = golden.root().join(format!("{name}-back"));
        converted(&new, Shape::SamePoints, &back, Compression::Lz4(1)).unwrap();
        assert_eq!((named(&back, "zstd"), digests(&back)), (0, digests(&dir)), "{name}");
    }
}
