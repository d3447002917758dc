//! Sets written again: the same content at every point, or an error that names the damage and leaves nothing.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod chains;
mod golden;
mod peer;

use chains::{Form, Link, Random, write_chain};
use golden::Golden;
use peer::Release;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use vmstream::chain::{BackupSet, DiskContent, PointId, StreamEntry};
use vmstream::convert::{Compression, ConvertError, ConvertOptions, Shape, convert};
use vmstream::restore::extract_to;
use vmstream::sidecar::{Run, RunKind, Sidecar, SidecarWriter, Tables, Value as Granule};
use vmstream::verify::{Depth, DiskDigest, Finding, Level, Verdict, VerifyOptions, verify_set};

const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn options(compression: Compression) -> ConvertOptions {
    ConvertOptions { compression, frame_len: 2 << 20, check: true, workers: WORKERS }
}

fn converted(from: &Path, shape: Shape, to: &Path, compression: Compression) -> Result<(), ConvertError> {
    convert(&BackupSet::open(from).unwrap(), shape, to, options(compression), &()).map(drop)
}

fn vmstream(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmstream")).args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn point(name: &str) -> PointId {
    name.parse().unwrap()
}

/// Digests of all disks at all points of a set in which nothing is wrong.
fn digests(dir: &Path) -> Vec<DiskDigest> {
    let set = BackupSet::open(dir).unwrap();
    let report = verify_set(&set, VerifyOptions { depth: Depth::Deep, workers: WORKERS }, &());
    // A raw image that virtnbdbackup made is proven by nothing.
    let unproven = report.findings.iter().any(|found| found.level == Level::Unproven);
    let may_be = |found: &Finding| match found.level {
        Level::Warning => true,
        Level::Unproven => found.path.ends_with("vdb.copy.data"),
        Level::Damage | Level::Unreadable => false,
    };
    assert!(report.findings.iter().all(may_be), "{:?}", report.findings);
    let want = if unproven { Verdict::CannotTell } else { Verdict::Good };
    assert_eq!(report.verdict(), want, "{:?}", report.findings);
    let wrong =
        report.digests.iter().filter_map(|found| found.checked.as_ref()).any(|found| !found.wrong.is_empty());
    assert!(!wrong, "{:?}", report.digests);
    // What proves them is another matter.
    report.digests.into_iter().map(|found| DiskDigest { checked: None, ..found }).collect()
}

/// The disk as it was at a point.
fn disk_at(dir: &Path, disk: &str, at: PointId) -> Vec<u8> {
    let mut bytes = Vec::new();
    extract_to(&BackupSet::open(dir).unwrap(), &disk.parse().unwrap(), at, &mut bytes, WORKERS, &()).unwrap();
    bytes
}

/// Every file below a folder: content and time.
fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let about = path.metadata().unwrap();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            found.insert(name, (std::fs::read(&path).unwrap(), about.modified().unwrap()));
        }
    }
    found
}

/// What lies beside a set that was to be converted into `new`.
fn left(new: &Path) -> Vec<String> {
    let name = new.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir(new.parent().unwrap()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|found| found.starts_with(name))
        .collect()
}

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

/// Gives the golden chain what a VM with a TPM has, with doors that somebody left open: the state changed with
/// `virtnbdbackup.2`, and there are leftovers.
fn add_tpm(dir: &Path) {
    let write = |name: &str, content: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        if !name.starts_with(".tpm-state.") {
            return;
        }
        for path in path.ancestors().take_while(|path| *path != dir) {
            if rustix::process::geteuid().is_root() {
                chown(path, Some(1234), Some(1235)).unwrap();
            }
            let mode = if path.is_dir() { 0o2775 } else { 0o644 };
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    };
    for (number, content) in [(0, "a"), (2, "b"), (9, "of a run that did not finish")] {
        write(&format!(".tpm-state.virtnbdbackup.{number}/tpm2/tpm2-00.permall"), content);
        symlink(
            format!(".tpm-state.virtnbdbackup.{number}"),
            dir.join(format!(".tpm-state.virtnbdbackup.{}", number + 1)),
        )
        .unwrap();
    }
    for number in 0..4 {
        write(&format!(".identity.virtnbdbackup.{number}.json"), &format!("{{\"at\": {number}}}"));
    }
    write(".tpm-state.virtnbdbackup.3.tpm2.tpm2-00.permall.partial", "half");
    write(".tpm-backup-marker", "2026-11-22 20:02:30\n");
    write(".copy-state.json", "{}");
    symlink(".tpm-state.virtnbdbackup.2", dir.join("tpm-state")).unwrap();
    symlink(".tpm-state.virtnbdbackup.2", dir.join(".tpm-state.link")).unwrap();
    std::fs::set_permissions(dir, Permissions::from_mode(0o2770)).unwrap();
}

/// What is hidden in a set, and what a TPM left: folders with `/`, links with their targets, files with their content.
fn hidden(dir: &Path) -> Vec<String> {
    let (mut found, mut paths) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = paths.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let about = path.symlink_metadata().unwrap();
            let private = name.starts_with(".tpm-state.") && !about.is_symlink();
            if private {
                let want = if about.is_dir() { 0o700 } else { 0o600 };
                let owner = if rustix::process::geteuid().is_root() {
                    (1234, 1235)
                } else {
                    (about.uid(), about.gid())
                };
                assert_eq!((about.mode() & 0o7777, (about.uid(), about.gid())), (want, owner), "{name}");
            }
            if about.is_symlink() {
                found.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
            } else if about.is_dir() && private {
                found.push(format!("{name}/"));
                paths.push(path);
            } else if about.is_file() && name.starts_with('.') && name != ".full-backup-month" {
                found.push(format!("{name}: {}", std::fs::read_to_string(&path).unwrap().trim_end()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_tpm_left_goes_along_with_its_point_for_its_owner_alone() {
    let golden = Golden::extract();
    let (dir, new) = (golden.lz4(), golden.root().join("tpm-new"));
    add_tpm(&dir);
    converted(&dir, Shape::SamePoints, &new, Compression::Lz4(1)).unwrap();
    let all = [
        ".identity.virtnbdbackup.0.json: {\"at\": 0}",
        ".identity.virtnbdbackup.1.json: {\"at\": 1}",
        ".identity.virtnbdbackup.2.json: {\"at\": 2}",
        ".identity.virtnbdbackup.3.json: {\"at\": 3}",
        ".tpm-backup-marker: 2026-11-22 20:02:30",
        ".tpm-state.virtnbdbackup.0/",
        ".tpm-state.virtnbdbackup.0/tpm2/",
        ".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall: a",
        ".tpm-state.virtnbdbackup.1 -> .tpm-state.virtnbdbackup.0",
        ".tpm-state.virtnbdbackup.2/",
        ".tpm-state.virtnbdbackup.2/tpm2/",
        ".tpm-state.virtnbdbackup.2/tpm2/tpm2-00.permall: b",
        ".tpm-state.virtnbdbackup.3 -> .tpm-state.virtnbdbackup.2",
    ];
    assert_eq!(hidden(&new), all);
    // A link of an older version becomes a folder.
    let newest = |dir: &Path| {
        assert!(!dir.join("tpm-state").is_symlink());
        std::fs::read_to_string(dir.join("tpm-state/tpm2/tpm2-00.permall")).unwrap()
    };
    assert_eq!(newest(&new), "b");
    assert_eq!(new.join("tpm-state").metadata().unwrap().mode() & 0o7777, 0o700);
    // And stays one.
    let again = golden.root().join("tpm-again");
    converted(&new, Shape::SamePoints, &again, Compression::Lz4(1)).unwrap();
    assert_eq!((hidden(&again), newest(&again)), (hidden(&new), "b".to_owned()));
    let full = golden.root().join("tpm-again-full");
    converted(&new, Shape::Full(point("virtnbdbackup.3")), &full, Compression::Lz4(1)).unwrap();
    assert!(full.join(".tpm-backup-marker").exists(), "it is the newest state");
    assert_eq!(newest(&full), "b");
    assert_eq!(new.metadata().unwrap().mode() & 0o7777, 0o2770);
    digests(&new);
    // No sidecar speaks of secrets: who may not read them can prove the rest.
    std::fs::remove_dir_all(new.join(".tpm-state.virtnbdbackup.0")).unwrap();
    digests(&new);
    std::fs::write(new.join(".identity.virtnbdbackup.0.json"), "{}").unwrap();
    let set = BackupSet::open(&new).unwrap();
    let report = verify_set(&set, VerifyOptions { depth: Depth::Content, workers: WORKERS }, &());
    let found: Vec<_> = report.findings.iter().map(|found| found.path.clone()).collect();
    assert_eq!(found, [new.join(".identity.virtnbdbackup.0.json")]);
    for (number, state, marker) in [(1, "a", false), (3, "b", true)] {
        let new = golden.root().join(format!("tpm-full-{number}"));
        converted(&dir, Shape::Full(point(&format!("virtnbdbackup.{number}"))), &new, Compression::Lz4(1))
            .unwrap();
        let mut want = vec![format!(".identity.virtnbdbackup.0.json: {{\"at\": {number}}}")];
        want.extend(marker.then(|| all[4].to_owned()));
        want.extend([all[5].to_owned(), all[6].to_owned()]);
        want.push(format!(".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall: {state}"));
        assert_eq!(hidden(&new), want, "{number}");
        assert_eq!(newest(&new), state);
        digests(&new);
    }
    // Where the state cannot be followed nothing is made.
    std::fs::rename(dir.join(".tpm-state.virtnbdbackup.2"), golden.root().join("away")).unwrap();
    let lost = golden.root().join("lost");
    let error = converted(&dir, Shape::SamePoints, &lost, Compression::Lz4(1)).unwrap_err();
    assert!(matches!(&error, ConvertError::Read { path, .. } if path.starts_with(&dir)), "{error}");
    assert_eq!(left(&lost), Vec::<String>::new());
}

#[test]
fn the_tpm_state_of_an_older_program_goes_along_as_a_folder() {
    let golden = Golden::extract();
    let (dir, other) = (golden.lz4(), golden.root().join("tpm-other"));
    std::fs::create_dir_all(other.join("tpm2")).unwrap();
    std::fs::write(other.join("tpm2/tpm2-00.permall"), "old").unwrap();
    symlink(&other, dir.join("tpm-state")).unwrap();
    for (name, shape) in [("same", Shape::SamePoints), ("full", Shape::Full(point("virtnbdbackup.1")))] {
        let new = golden.root().join(name);
        converted(&dir, shape, &new, Compression::Lz4(1)).unwrap();
        let (folder, file) = (new.join("tpm-state"), new.join("tpm-state/tpm2/tpm2-00.permall"));
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
        assert!(!folder.is_symlink());
        assert_eq!(
            (mode(&folder), mode(&file), std::fs::read(&file).unwrap()),
            (0o700, 0o600, b"old".to_vec())
        );
    }
}

/// Where the sidecars of `vda` know the disk's content at a point: the beginning of each granule. All of it must be so.
fn known(dir: &Path, at: PointId, disk: &[u8]) -> Vec<u64> {
    let set = BackupSet::open(dir).unwrap();
    let DiskContent::Streams(entries) = set.content(&"vda".parse().unwrap(), at).unwrap() else { panic!() };
    let open = |entry: &&StreamEntry| Some(Sidecar::open(entry.sidecar.as_ref()?).unwrap());
    let sidecars: Vec<_> = entries.iter().map(open).collect();
    sidecars.iter().flatten().for_each(|sidecar| sidecar.check().unwrap());
    let newest = sidecars.len() - 1;
    let mut found = Vec::new();
    Tables::new(sidecars)
        .window(&(0..disk.len() as u64), |layer, known| {
            let Some((granules, values)) = known.filter(|_| layer == newest) else { return };
            for (number, value) in values.iter().enumerate() {
                let range = granules.range(number as u64);
                let sum = crc32fast::hash(&disk[range.start as usize..range.end as usize]);
                match value {
                    Granule::Known(known) => assert_eq!(*known, sum, "{at}, granule {number}"),
                    Granule::Unknown => continue,
                }
                found.push(range.start);
            }
        })
        .unwrap();
    found
}

/// A random chain: disks that grow, shrink, come late, and fulls in mid-chain.
fn random_links(random: &mut Random) -> Vec<Link> {
    let mut size = 70_001;
    let late = random.below(4) == 0;
    (0..1 + random.below(6))
        .map(|number| {
            if late && number == 0 {
                return Link { size, alone: true, frames: Vec::new() };
            }
            if random.below(4) == 0 {
                size = 1 + random.below(200_000);
            }
            let alone = number == 0 || late && number == 1 || random.below(5) == 0;
            let (mut frames, mut at) = (Vec::new(), 0);
            while at < size {
                let end = size.min(at + 1 + random.below(40_000));
                match random.below(4) {
                    0 => frames.push((at..end, None)),
                    1 | 2 => frames.push((at..end, Some(random.content((end - at) as usize)))),
                    // A full in mid-chain names all that is zero.
                    _ if alone && number > 0 => frames.push((at..end, None)),
                    _ => {}
                }
                at = end;
            }
            if frames.is_empty() {
                frames.push((0..1, Some(vec![7])));
            }
            Link { size, alone, frames }
        })
        .collect()
}

#[test]
fn any_chain_can_be_written_again_and_put_together() {
    let mut random = Random::seeded("CONVERT_SEED", 0x5eed_c0de_0001);
    for round in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let links = random_links(&mut random);
        let form = Form {
            compression: [None, Some(1)][random.below(2) as usize],
            frame_len: 1 + random.below(20_000) as usize,
            sidecars: random.below(2) == 0,
        };
        let old = dir.path().join("old");
        write_chain(&old, &links, form);
        let set = BackupSet::open(&old).unwrap();
        let compression = [Compression::None, Compression::Lz4(2)][random.below(2) as usize];
        let frame_len = 1 + random.below(30_000);
        let workers = NonZeroUsize::new(1 + random.below(3) as usize).unwrap();
        let options = ConvertOptions { compression, frame_len, check: true, workers };
        let again = dir.path().join("again");
        convert(&set, Shape::SamePoints, &again, options, &()).unwrap();
        let mut shadow = Vec::new();
        for (number, link) in links.iter().enumerate() {
            link.apply(&mut shadow);
            let at = point(&format!("virtnbdbackup.{number}"));
            if link.alone && link.frames.is_empty() {
                continue;
            }
            assert!(disk_at(&again, "vda", at) == shadow, "round {round}, point {number}");
            let (before, after) = (known(&old, at, &shadow), known(&again, at, &shadow));
            if form.sidecars {
                assert_eq!(after, before, "round {round}, point {number}");
            }
            let full = dir.path().join(format!("full-{number}"));
            convert(&set, Shape::Full(at), &full, options, &()).unwrap();
            assert!(
                disk_at(&full, "vda", point("virtnbdbackup.0")) == shadow,
                "round {round}, full {number}"
            );
            assert_eq!(digests(&full).len(), 1);
            // What nothing told of the disk, the new full cannot tell.
            assert_eq!(
                known(&full, point("virtnbdbackup.0"), &shadow),
                before,
                "round {round}, full {number}"
            );
        }
    }
}

/// The disk is put together in windows of 32 MiB; each byte of a stream belongs to one of them.
#[test]
fn frames_may_cross_every_window() {
    let mut random = Random::seeded("CONVERT_SEED", 0x5eed_c0de_0002);
    const MIB: u64 = 1 << 20;
    let mut content = |range: std::ops::Range<u64>| {
        let len = (range.end - range.start) as usize;
        let fill = 1 + random.below(250) as u8;
        (range, Some((0..len).map(|at| fill ^ (at / 7000) as u8).collect::<Vec<u8>>()))
    };
    let link = |mib: u64, alone, frames| Link { size: mib * MIB, alone, frames };
    let links = [
        link(
            100,
            true,
            vec![content(MIB..70 * MIB), (70 * MIB..95 * MIB, None), content(95 * MIB..99 * MIB)],
        ),
        link(
            100,
            false,
            vec![content(30 * MIB..33 * MIB), content(40 * MIB..65 * MIB), content(96 * MIB..98 * MIB)],
        ),
        // What lay behind 80 MiB is gone, also when the disk grows again.
        link(80, false, vec![content(31 * MIB..34 * MIB), content(63 * MIB..65 * MIB)]),
        link(120, false, vec![content(64 * MIB - 4096..64 * MIB + 4096), content(119 * MIB..120 * MIB)]),
    ];
    for (compression, frame_len) in [(None, 5 * MIB), (Some(1), 9 * MIB), (Some(1), 32 * MIB - 1)] {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        write_chain(&old, &links, Form { compression, frame_len: frame_len as usize, sidecars: false });
        let mut shadow = Vec::new();
        for (number, link) in links.iter().enumerate() {
            link.apply(&mut shadow);
            let new = dir.path().join(format!("full-{number}"));
            let at = Shape::Full(point(&format!("virtnbdbackup.{number}")));
            converted(&old, at, &new, Compression::Lz4(1)).unwrap();
            assert!(
                disk_at(&new, "vda", point("virtnbdbackup.0")) == shadow,
                "{compression:?}, {frame_len}, {number}"
            );
            std::fs::remove_dir_all(&new).unwrap();
        }
        // A byte in what newer streams hide, and one behind the end of the smaller disk.
        let full = old.join("vda.full.data");
        for place in [3, 100] {
            let pristine = std::fs::read(&full).unwrap();
            flip(&full, |len| if place == 3 { len / 3 } else { len - len / 200 - 4000 });
            let failed = converted(
                &old,
                Shape::Full(point("virtnbdbackup.3")),
                &dir.path().join("new"),
                Compression::None,
            );
            assert!(failed.unwrap_err().is_damage(), "{compression:?}, {frame_len}, {place}");
            std::fs::write(&full, pristine).unwrap();
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

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

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

/// A set whose conversion takes a while.
fn large_chain(dir: &Path) {
    let mut random = Random(77);
    let size = 48 << 20;
    let part = |random: &mut Random, start: u64, len: usize| {
        (start..start + len as u64, Some((0..len).map(|_| random.below(64) as u8).collect::<Vec<u8>>()))
    };
    let full =
        Link { size, alone: true, frames: vec![part(&mut random, 0, 8 << 20), ((8 << 20)..size, None)] };
    let inc = |random: &mut Random| Link { size, alone: false, frames: vec![part(random, 5 << 20, 2 << 20)] };
    let links = [full, inc(&mut random), inc(&mut random)];
    write_chain(dir, &links, Form { compression: Some(1), frame_len: 1 << 20, sidecars: false });
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_new_set_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    large_chain(&old);
    let before = files(&old);
    let want = digests(&old);
    let mut random = Random::seeded("CONVERT_KILL_SEED", 0x5eed_dead);
    let run = |squash: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmstream"));
        command.args(["convert", "old", "--to", "new", "--level", "4", "--workers", "2"]);
        command.args(squash.then_some("--squash")).current_dir(dir.path()).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let began = std::time::Instant::now();
    assert!(run(false).wait().unwrap().success());
    let whole_run = began.elapsed();
    std::fs::remove_dir_all(dir.path().join("new")).unwrap();
    let (mut none, mut whole) = (0, 0);
    for round in 0..12u32 {
        // Some kills come late, around the renames.
        let micros = whole_run.as_micros() as u64;
        let wait =
            if round % 3 == 0 { micros * 9 / 10 + random.below(micros / 5) } else { random.below(micros) };
        let squash = round % 2 == 1;
        let mut child = run(squash);
        std::thread::sleep(Duration::from_micros(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        let new = dir.path().join("new");
        if new.exists() {
            whole += 1;
            let found = digests(&new);
            assert_eq!(found.len(), if squash { 1 } else { want.len() });
            assert_eq!(found.last().unwrap().digest, want.last().unwrap().digest);
            std::fs::remove_dir_all(&new).unwrap();
        } else {
            none += 1;
        }
        let unfinished = dir.path().join("new.partial");
        if unfinished.exists() {
            let refused = vmstream(dir.path(), &["convert", "old", "--to", "new"]);
            assert_eq!(refused.status.code(), Some(2));
            std::fs::remove_dir_all(&unfinished).unwrap();
        }
        assert!(files(&old) == before, "round {round}");
    }
    println!("{none} without a new set, {whole} with a whole one");
    assert!(none > 0, "no kill came early enough");
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
