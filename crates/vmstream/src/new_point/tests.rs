#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::sidecar::{Granules, Head, Sidecar, SidecarWriter, StreamIdentity};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

/// A stream and its sidecar, of a disk of one sector.
fn add_disk(point: &mut PointWriter<'_>, target: &str, stream: &str, sidecar: &str) {
    let file = File::create(point.unfinished_path(stream)).unwrap();
    point.add_stream(stream, &file).unwrap();
    let granules = Granules::of_disk(512);
    let mut writer = SidecarWriter::create(&point.unfinished_path(sidecar), granules).unwrap();
    writer.zero(0, 512).unwrap();
    let head = Head {
        writer: "test".into(),
        stream: StreamIdentity { name: stream.into(), size: 0, adler32: None, digest: None },
        target: target.into(),
        point: "virtnbdbackup.0".into(),
        parent: None,
        parent_sidecar: None,
        taken_seconds: 1000,
        granules,
        disks: None,
        left_out: vec![],
        files: vec![],
    };
    point.add_sidecar(OpenSidecar { name: sidecar.into(), writer, head });
}

/// A point of two disks.
fn write(folder: &PointFolder) -> SealedPoint {
    let mut point = folder.begin(at(1000));
    add_disk(&mut point, "vda", "vda.full.data", "vda.full.idx");
    add_disk(&mut point, "vdb", "vdb.full.data", "vdb.full.idx");
    point.add_small("checkpoints/virtnbdbackup.0.xml", b"<x/>").unwrap();
    point.add_earlier("vdb.full.data.chksum", b"1", at(900)).unwrap();
    point.add_copy("nvram.virtnbdbackup.0", &mut &b"variables"[..]).unwrap();
    point.add_secret(".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall", b"key").unwrap();
    point.set_list("web.cpt", b"[]").unwrap();
    let (sealed, sidecars) = point.seal(&[]).unwrap();
    assert_eq!(sidecars.len(), 2);
    sealed
}

#[test]
fn a_point_is_there_with_all_it_names_or_not_at_all() {
    for open in [PointFolder::beside, PointFolder::hidden] {
        let dir = tempfile::tempdir().unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        let folder = open(dir.path()).unwrap();
        let point = write(&folder);
        folder.sync().unwrap();
        let waiting: Vec<String> =
            names(dir.path()).into_iter().filter(|name| !name.ends_with(".partial")).collect();
        assert!(waiting.iter().all(|name| dir.path().join(name).is_dir()), "{waiting:?}");
        let seen = RefCell::new(vec![]);
        let look = |named| {
            let looked = ["vda.full.idx", "vda.full.data", "vdb.full.data", "web.cpt"].map(there);
            seen.borrow_mut().push((named, looked));
        };
        folder.commit(&[point], &look).unwrap();
        let want = [
            (Named::SmallFiles, [true, false, false, false]),
            (Named::FirstStream, [true, true, false, false]),
            (Named::Streams, [true, true, true, false]),
        ];
        assert_eq!(seen.into_inner(), want);
        let time = |name: &str| fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
        for name in ["vda.full.data", "vda.full.idx", "checkpoints/virtnbdbackup.0.xml", "web.cpt"] {
            assert_eq!(time(name), at(1000), "{name}");
        }
        assert_eq!(time("vdb.full.data.chksum"), at(900));
        assert_eq!(fs::read(dir.path().join("nvram.virtnbdbackup.0")).unwrap(), b"variables");
        let mut left = names(dir.path());
        left.retain(|name| name.ends_with(".partial"));
        assert_eq!(left, Vec::<String>::new());
        // Each sidecar names the point's disks, and its files but for the secret and the earlier one.
        let sidecar = Sidecar::open(&dir.path().join("vda.full.idx")).unwrap();
        assert_eq!(sidecar.head().disks, Some(vec!["vda".to_owned(), "vdb".to_owned()]));
        let files: Vec<&str> = sidecar.head().files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(files, ["checkpoints/virtnbdbackup.0.xml", "nvram.virtnbdbackup.0", "web.cpt"]);
    }
}

#[test]
fn secrets_are_for_the_owner_alone_also_below_a_folder_of_a_group() {
    for open in [PointFolder::beside, PointFolder::hidden] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o2770)).unwrap();
        let folder = open(dir.path()).unwrap();
        let name = ".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall";
        let mut point = folder.begin(at(1000));
        point.add_secret(name, b"key").unwrap();
        let mode = |path: PathBuf| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(point.unfinished_path(name)), 0o600);
        let (point, _) = point.seal(&[]).unwrap();
        folder.commit(&[point], &|_| {}).unwrap();
        let above = dir.path().join(".tpm-state.virtnbdbackup.0");
        assert_eq!((mode(above.clone()), mode(above.join("tpm2"))), (0o700, 0o700));
        assert_eq!(mode(dir.path().join(name)), 0o600);
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"key");
    }
}

#[test]
fn no_stream_and_no_sidecar_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let folder = PointFolder::beside(dir.path()).unwrap();
    let ours = ["vda.inc.virtnbdbackup.1.data", "vda.inc.virtnbdbackup.1.idx"];
    let mut point = folder.begin(at(1000));
    add_disk(&mut point, "vda", ours[0], ours[1]);
    ours.iter().for_each(|name| fs::write(dir.path().join(name), "older").unwrap());
    let points = [point.seal(&[]).unwrap().0];
    let make_way = |archived: &[String]| points[0].make_way(dir.path(), archived);
    make_way(&ours.map(str::to_owned)).unwrap();
    assert!(make_way(&[]).is_err(), "a stream is in the way");
    assert!(folder.commit(&points, &|_| {}).is_err(), "it came later");
    fs::rename(dir.path().join(ours[0]), dir.path().join("moved")).unwrap();
    make_way(&[]).unwrap();
    let aside = dir.path().join("vda.inc.virtnbdbackup.1.idx.old.1");
    assert_eq!(fs::read_to_string(aside).unwrap(), "older");
    folder.commit(&points, &|_| {}).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap(), "older");
}
