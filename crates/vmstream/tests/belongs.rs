//! What is whole and does not belong where it is, what is missed though nothing of it is left, and what is not finished.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod golden;
mod ours;

use golden::{Golden, build, data_header};
use ours::{Change, DISK, GRANULE, Ours};
use serde_json::Value;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use vmstream::chain::{BackupSet, CheckpointName, DiskContent, PointId, SetProblem, cpt};
use vmstream::convert::{Compression, ConvertOptions, Shape, convert};
use vmstream::restore::{ExtractError, pipe_to};
use vmstream::sidecar::Value as Granule;
use vmstream::stream::writer::FRAME_LEN;
use vmstream::verify::{Depth, DiskVerdict, Level, SetReport, Verdict, VerifyOptions, Worth, verify_set};

const NEWEST: u32 = 3;

fn vmstream(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmstream")).args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn verified(dir: &Path, depth: Depth) -> SetReport {
    verify_set(&BackupSet::open(dir).unwrap(), VerifyOptions { depth, workers: NonZeroUsize::MIN }, &())
}

fn worths(report: &SetReport) -> Vec<Worth> {
    report.points.iter().map(|point| point.worth()).collect()
}

fn damaged(report: &SetReport) -> Vec<PathBuf> {
    let mut found: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.level == Level::Damage)
        .map(|found| found.path.clone())
        .collect();
    found.dedup();
    found
}

fn at(number: u32) -> PointId {
    format!("virtnbdbackup.{number}").parse().unwrap()
}

fn extracted(dir: &Path, disk: &str, point: PointId, check: bool) -> Result<Vec<u8>, ExtractError> {
    let (set, mut image) = (BackupSet::open(dir).unwrap(), Vec::new());
    pipe_to(&set, &disk.parse().unwrap(), point, (&mut image, check), NonZeroUsize::MIN, &()).map(|_| image)
}

fn convert_to(
    dir: &Path,
    shape: Shape,
    to: &Path,
    check: bool,
) -> Result<(), vmstream::convert::ConvertError> {
    let (compression, workers) = (Compression::Lz4(1), NonZeroUsize::MIN);
    let options = ConvertOptions { compression, frame_len: FRAME_LEN, check, workers };
    convert(&BackupSet::open(dir).unwrap(), shape, to, options, &()).map(drop)
}

/// A chain whose content, and whose domain, are told from others by the seed.
fn chain(points: u32, seed: u8, tag: &'static str) -> Ours {
    let mut ours = Ours::empty(Some(1));
    ours.tag = tag;
    ours.raw[0] = seed;
    let mut disk = vec![seed; DISK];
    ours.add(disk.clone(), &[Change::Data(0..DISK)]);
    for number in 1..points as usize {
        disk[number * GRANULE..number * GRANULE + 100].fill(seed + 1);
        ours.add(disk.clone(), &[Change::Data(number * GRANULE..(number + 1) * GRANULE)]);
    }
    ours
}

/// A point's files that bear the name of the disk, and all others.
fn files_of(number: u32) -> (Vec<String>, Vec<String>) {
    let ident = format!("virtnbdbackup.{number}");
    let name = if number == 0 { "vda.full".to_owned() } else { format!("vda.inc.{ident}") };
    let mut own: Vec<_> = ["data", "data.chksum", "idx"].iter().map(|end| format!("{name}.{end}")).collect();
    own.push(format!("vda.{ident}.qcow.json"));
    let beside =
        [format!("vmconfig.{ident}.xml"), format!("checkpoints/{ident}.xml"), format!("VARS.fd.{ident}")];
    (own, beside.into())
}

fn take(files: &[String], from: &Ours, to: &Ours) {
    for name in files {
        fs::copy(from.path(name), to.path(name)).unwrap();
    }
}

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

fn remove(dir: &Path, which: impl Fn(&str) -> bool) {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let gone: Vec<_> = paths.filter(|path| which(path.file_name().unwrap().to_str().unwrap())).collect();
    assert!(!gone.is_empty());
    gone.iter().for_each(|path| fs::remove_file(path).unwrap());
}

fn lost(report: &SetReport) -> Vec<String> {
    report.points.iter().filter(|point| point.is_lost()).map(|point| point.id.to_string()).collect()
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

/// One stream of 64 KiB with a checksum file.
fn write_stream(dir: &Path, name: &str, disk: &str, checkpoint: &str, parent: &str, byte: u8) {
    let mut meta = golden::meta(64 << 10, 4096, None);
    meta.disk_name = disk.to_owned();
    meta.checkpoint_name = checkpoint.to_owned();
    meta.parent_checkpoint = parent.to_owned();
    meta.incremental = !parent.is_empty();
    let frames = [&data_header(0, 4096)[..], &[byte; 4096], b"\r\n"].concat();
    let bytes = build(&meta, &frames, None);
    fs::write(dir.join(format!("{name}.chksum")), vmstream::stream::checksum::adler32(&bytes).to_string())
        .unwrap();
    fs::write(dir.join(name), bytes).unwrap();
}

const DOMAIN: &str = "<domain><devices>
<disk device='disk'><source file='a'/><target dev='vda'/></disk>
<disk device='disk'><source file='b'/><target dev='vdb'/></disk>
</devices></domain>";

/// Two disks read one after the other, as `-w 1` has it: the first took a minute.
#[test]
fn a_difference_of_disks_that_began_one_after_the_other_is_one_point() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, later, ended) = (1_795_377_788u64, 1_795_377_848u64, 1_795_377_900u64);
    for disk in ["vda", "vdb"] {
        write_stream(dir.path(), &format!("{disk}.full.data"), disk, "virtnbdbackup.0", "", 1);
    }
    let difference = |disk: &str, epoch: u64, byte| {
        let name = format!("{disk}.diff.{epoch}.data");
        write_stream(dir.path(), &name, disk, "virtnbdbackup.1", "virtnbdbackup.0", byte);
    };
    // Two runs.
    for day in [0, 86_400] {
        difference("vda", begun + day, 2);
        difference("vdb", later + day, 3);
        fs::write(dir.path().join(format!("vmconfig.{}.xml", ended + day)), DOMAIN).unwrap();
    }
    fs::write(dir.path().join("vm.cpt"), r#"["virtnbdbackup.0"]"#).unwrap();
    fs::write(dir.path().join("vmconfig.virtnbdbackup.0.xml"), DOMAIN).unwrap();
    let report = verified(dir.path(), Depth::Deep);
    let names: Vec<_> = report.points.iter().map(|point| point.id.to_string()).collect();
    assert_eq!(
        names,
        ["virtnbdbackup.0".to_owned(), format!("diff.{begun}"), format!("diff.{}", begun + 86_400)]
    );
    assert_eq!(damaged(&report), Vec::<PathBuf>::new(), "{:?}", report.findings);
    assert!(worths(&report).iter().all(|worth| *worth == Worth::Proven));
    let new = tempfile::tempdir().unwrap();
    for (shape, to) in [(Shape::Full(PointId::Diff(begun)), "full"), (Shape::SamePoints, "again")] {
        let to = new.path().join(to);
        convert_to(dir.path(), shape, &to, true).unwrap();
        let report = verified(&to, Depth::Content);
        assert_eq!(report.verdict(), Verdict::Good, "{:?}", report.findings);
        let (point, disks) = (report.points.last().unwrap(), BackupSet::open(&to).unwrap().disks().len());
        assert_eq!((point.disks.len(), disks), (2, 2));
        for (disk, byte) in [("vda", 2), ("vdb", 3)] {
            assert_eq!(extracted(&to, disk, point.id, true).unwrap()[..4096], [byte; 4096], "{disk}");
        }
    }
    // The checksum beside a stream that is gone still tells.
    fs::remove_file(dir.path().join(format!("vdb.diff.{later}.data"))).unwrap();
    assert_eq!(lost(&verified(dir.path(), Depth::Quick)), [format!("diff.{begun}")]);
}

/// virtnbdbackup extends the list first, renames each stream when it is complete, and writes the definition last.
#[test]
fn a_point_that_another_program_writes_is_no_damage() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let names: Vec<_> = (0..5).map(|number| format!("\"{}\"", at(number))).collect();
    fs::write(dir.join("gold1.cpt"), format!("[{}]", names.join(", "))).unwrap();
    let stream = |disk: &str| dir.join(format!("{disk}.inc.virtnbdbackup.4.data"));
    fs::write(stream("vda").with_extension("data.partial"), b"half").unwrap();
    for complete in [false, true] {
        if complete {
            fs::rename(stream("vda").with_extension("data.partial"), stream("vda")).unwrap();
            fs::write(stream("vdb").with_extension("data.partial"), b"half").unwrap();
        }
        let report = verified(&dir, Depth::Content);
        assert_eq!((report.verdict(), report.points.len()), (Verdict::Good, 4), "{:?}", report.findings);
        let said =
            report.findings.iter().any(|found| found.message.starts_with("virtnbdbackup.4 is unfinished"));
        assert!(said, "{:?}", report.findings);
        let done = vmstream(&dir, &["extract", ".", "--disk", "vda", "-o", "../out.raw", "--force"]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        assert!(
            text(&done.stderr).contains("virtnbdbackup.3 is the newest one that is whole"),
            "{}",
            text(&done.stderr)
        );
        assert!(text(&done.stdout).starts_with("Disk vda at virtnbdbackup.3:"));
    }
    // Done: the point is there, and its second disk is missed.
    fs::remove_file(stream("vdb").with_extension("data.partial")).unwrap();
    fs::write(dir.join("vmconfig.virtnbdbackup.4.xml"), DOMAIN).unwrap();
    assert_eq!(verified(&dir, Depth::Quick).verdict(), Verdict::Damaged);
    // A difference and a copy have no list.
    let plain = golden.plain();
    fs::rename(plain.join("vmconfig.1795377788.xml"), golden.root().join("config")).unwrap();
    assert_eq!(verified(&plain, Depth::Quick).verdict(), Verdict::Damaged);
    fs::write(plain.join("vdc.diff.1795377799.data.partial"), b"half").unwrap();
    let report = verified(&plain, Depth::Quick);
    assert_eq!((report.verdict(), report.points.len()), (Verdict::Good, 2), "{:?}", report.findings);
    let copy = golden.copy();
    fs::rename(copy.join("vmconfig.copy.xml"), golden.root().join("config")).unwrap();
    fs::write(copy.join("vdc.copy.data.partial"), b"half").unwrap();
    let report = verified(&copy, Depth::Quick);
    assert_eq!((report.verdict(), report.points.len()), (Verdict::CannotTell, 0), "{:?}", report.findings);
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

#[test]
fn nothing_below_a_folder_is_passed_over_in_silence() {
    let golden = Golden::extract();
    let (root, elsewhere) = (golden.root().join("tree"), golden.root().join("elsewhere"));
    fs::create_dir_all(&elsewhere).unwrap();
    fs::rename(golden.root().join("lz4/gold1"), elsewhere.join("gold1")).unwrap();
    fs::create_dir_all(root.join("plain")).unwrap();
    fs::rename(golden.plain(), root.join("plain/202611")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("gold1"), root.join("gold1")).unwrap();
    // In circles, and up.
    std::os::unix::fs::symlink(&root, root.join("again")).unwrap();
    std::os::unix::fs::symlink("/", root.join("all")).unwrap();
    let verify = |path: &Path| {
        let done = vmstream(path, &["verify", "."]);
        (done.status.code(), text(&done.stdout).to_owned(), text(&done.stderr).to_owned())
    };
    let (exit, said, notes) = verify(&root);
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("gold1 in ./gold1/202611: good") && said.contains("2 backup sets"), "{said}");
    assert!(notes.contains("./all is not looked at"), "{notes}");
    // A VM's folder that has become a set, by a file that somebody put there.
    for stray in ["stray.cpt", "vda.full.data.chksum"] {
        fs::write(elsewhere.join("gold1").join(stray), "[]").unwrap();
        let (exit, said, _) = verify(&elsewhere.join("gold1"));
        assert!(exit != Some(0) && said.contains("gold1 in ./202611: good"), "{stray} {said}");
        fs::remove_file(elsewhere.join("gold1").join(stray)).unwrap();
    }
    // An archive beside its chain is looked at too, unless somebody says no.
    let chain = elsewhere.join("gold1/202611");
    fs::create_dir_all(chain.join(".archives")).unwrap();
    fs::rename(golden.copy(), chain.join(".archives/chain-2026-11-22")).unwrap();
    let (exit, said, _) = verify(&chain);
    assert_eq!(exit, Some(2), "{said}");
    assert!(
        said.contains("vdb: good\n\ngold1 in .: good") && said.contains("chain-2026-11-22: UNPROVEN"),
        "{said}"
    );
    let done = vmstream(&chain, &["verify", ".", "--no-archives"]);
    let notes = text(&done.stderr);
    assert_eq!((done.status.code(), notes.contains("1 archived chain below .")), (Some(0), true), "{notes}");
    // Folders that are called like those of the programs, where these have none.
    for at in ["deep/_state/x", "deep/__HOST_CONFIG__", "tpm-state"] {
        let tree = golden.root().join("named");
        fs::create_dir_all(tree.join(at).parent().unwrap()).unwrap();
        fs::rename(chain.join(".archives/chain-2026-11-22"), tree.join(at)).unwrap();
        let (exit, said, _) = verify(&tree);
        assert!(exit == Some(2) && said.contains(&format!("./{at}: UNPROVEN")), "{at} {exit:?} {said}");
        fs::rename(tree.join(at), chain.join(".archives/chain-2026-11-22")).unwrap();
    }
    // What is left of a set without streams is no set, and said.
    fs::create_dir_all(root.join("left")).unwrap();
    fs::write(root.join("left/vda.full.data.chksum"), "1").unwrap();
    assert!(verify(&root).1.contains("unreadable: ./left holds no backup set"), "{}", verify(&root).1);
}

#[test]
fn doctor_and_info_say_where_they_cannot_look() {
    let golden = Golden::extract();
    let (dir, name) = (golden.lz4(), "vda.inc.virtnbdbackup.1.data");
    let good = fs::read(dir.join(name)).unwrap();
    let spoil = |content: Option<&[u8]>| match content {
        None => fs::remove_file(dir.join(name)).unwrap(),
        Some(content) => fs::write(dir.join(name), content).unwrap(),
    };
    for content in [Some(&b""[..]), Some(&good[..good.len() / 2]), None] {
        spoil(content);
        let done = vmstream(&dir, &["doctor", "--json", "."]);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        let unknown = json["sets"][0]["unknown"].as_array().unwrap();
        assert_eq!(unknown.len(), 1, "{json}");
        assert!(!json["sets"][0]["sound_points"].to_string().contains("virtnbdbackup.1"), "{json}");
        let shown = vmstream(&dir, &["doctor", "."]);
        assert!(text(&shown.stdout).contains("cannot tell of 1 stream"), "{}", text(&shown.stdout));
        let info = vmstream(&dir, &["info", "."]);
        assert_eq!(info.status.code(), Some(1), "{}", text(&info.stdout));
    }
    // Nothing to look at is nothing to be sure of.
    remove(&dir, |name| name.ends_with(".data"));
    fs::write(dir.join("gold1.cpt"), "[]").unwrap();
    let shown = vmstream(&dir, &["doctor", "."]);
    assert_eq!(shown.status.code(), Some(2), "{}", text(&shown.stdout));
    assert!(!text(&shown.stdout).contains("nothing to fear"));
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
