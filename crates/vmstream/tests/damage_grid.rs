//! Every kind of damage to every kind of file: what verify finds, and which restore points it says are lost.
//!
//! Sets of ours have sidecars, so every changed byte is found. Of sets of the old tools that is so for streams with a
//! checksum file. `DAMAGE_FLIPS` says how many random bytes are flipped, `DAMAGE_SEED` which.

use crate::chains::{Form, Link, content, write_chain};
use crate::golden::Golden;
use random::Random;
use std::fs::{File, FileTimes};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use vmstream::chain::{BackupSet, SetFile, StreamKind};
use vmstream::convert::{Compression, ConvertOptions, Shape, convert};
use vmstream::verify::{Depth, Level, SetReport, Verdict, VerifyOptions, verify_set};

const KIB: usize = 1 << 10;

/// Every way in which our streams are stored.
const FORMS: [Compression; 3] = [Compression::Lz4(1), Compression::Zstd(3), Compression::None];

/// The newest of the chains here.
const NEWEST: u32 = 3;

fn verified(dir: &Path) -> SetReport {
    let options = VerifyOptions { depth: Depth::Content, workers: NonZeroUsize::MIN };
    verify_set(&BackupSet::open(dir).unwrap(), options, &())
}

/// Numbers of the points that are lost.
fn lost(report: &SetReport) -> Vec<String> {
    let ids = report.points.iter().filter(|point| point.is_lost()).map(|point| point.id.to_string());
    ids.map(|id| id.trim_start_matches("virtnbdbackup.").to_owned()).collect()
}

fn names(report: &SetReport, level: Level, file: &Path) -> bool {
    report.findings.iter().any(|finding| finding.level == level && finding.path == file)
}

/// A set as the engine leaves it behind, with a file of each kind: one disk as streams, one as a raw image.
fn ours(dir: &Path, compression: Compression) -> PathBuf {
    let mut random = Random::from_seed(0x5eed_0a55);
    let size = 320 * KIB as u64;
    let mut part =
        |start: usize, len: usize| (start as u64..(start + len) as u64, Some(content(&mut random, len)));
    let link = |alone, frames| Link { size, alone, frames };
    let links = [
        link(
            true,
            vec![part(0, 100 * KIB), (100 * KIB as u64..256 * KIB as u64, None), part(256 * KIB, 64 * KIB)],
        ),
        link(false, vec![part(64 * KIB, 64 * KIB)]),
        link(false, vec![part(0, 512), part(192 * KIB, 64 * KIB)]),
        link(false, vec![part(128 * KIB, 5 * KIB)]),
    ];
    let made = dir.join("made");
    write_chain(&made, &links, Form { compression: None, frame_len: 48 * KIB, sidecars: true });
    for number in 0..=NEWEST {
        let ident = format!("virtnbdbackup.{number}");
        for (name, content) in [
            (
                format!("vmconfig.{ident}.xml"),
                format!("<domain>\n  <name>made</name><!-- {number} -->\n</domain>\n"),
            ),
            (format!("vda.{ident}.qcow.json"), format!("{{\"virtual-size\": {size}, \"point\": {number}}}")),
            (format!("OVMF_VARS.fd.{ident}"), format!("variables {number} {}", "x".repeat(3000))),
            (format!("autostart.{ident}"), "True".to_owned()),
        ] {
            std::fs::write(made.join(name), content).unwrap();
        }
    }
    std::fs::write(made.join("vdb.copy.data"), content(&mut random, 100 * KIB)).unwrap();
    let set = dir.join(format!("{compression:?}"));
    let options =
        ConvertOptions { compression, frame_len: 32 << 10, check: true, workers: NonZeroUsize::MIN };
    convert(&BackupSet::open(&made).unwrap(), Shape::SamePoints, &set, options, &()).unwrap();
    std::fs::remove_dir_all(&made).unwrap();
    let report = verified(&set);
    assert_eq!((report.verdict(), report.findings.len()), (Verdict::Good, 0), "{:?}", report.findings);
    set
}

/// Every file of a set, by its name inside.
fn files(dir: &Path) -> Vec<String> {
    let list = |folder: &str| {
        let entries = std::fs::read_dir(dir.join(folder)).unwrap().map(Result::unwrap);
        let found = entries.filter(|entry| entry.file_type().unwrap().is_file());
        found.map(|entry| format!("{folder}{}", entry.file_name().to_str().unwrap())).collect::<Vec<_>>()
    };
    let mut files = [list(""), list("checkpoints/")].concat();
    files.sort();
    files
}

/// The points that are lost with the content of a file.
fn lost_with(file: &str) -> Vec<String> {
    let from = match SetFile::parse(file) {
        Some(SetFile::Stream { kind: StreamKind::Full | StreamKind::Copy, .. }) => 0,
        Some(SetFile::Stream { kind: StreamKind::Inc(name), .. }) => name.number(),
        _ => NEWEST + 1,
    };
    (from..=NEWEST).map(|number| number.to_string()).collect()
}

/// One file of a set, with what it was.
struct Victim {
    path: PathBuf,
    content: Vec<u8>,
    times: FileTimes,
}

impl Victim {
    fn of(path: PathBuf) -> Self {
        let content = std::fs::read(&path).unwrap();
        let times = FileTimes::new().set_modified(std::fs::metadata(&path).unwrap().modified().unwrap());
        Self { path, content, times }
    }

    fn write(&self, content: &[u8]) {
        std::fs::write(&self.path, content).unwrap();
        self.keep_times();
    }

    fn keep_times(&self) {
        File::options().write(true).open(&self.path).unwrap().set_times(self.times).unwrap();
    }

    fn flip(&self, at: usize, with: u8) {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(&[self.content[at] ^ with], at as u64).unwrap();
        file.set_times(self.times).unwrap();
    }

    fn restore(&self) {
        self.write(&self.content);
    }
}

#[test]
fn ours_delete_truncate_and_flip_each_file() {
    let dir = tempfile::tempdir().unwrap();
    for compression in FORMS {
        let set = ours(dir.path(), compression);
        for file in files(&set) {
            let victim = Victim::of(set.join(&file));
            let len = victim.content.len();
            let damaged = |what: &str| {
                let report = verified(&set);
                assert_eq!(report.verdict(), Verdict::Damaged, "{what} {file}: {:?}", report.findings);
                assert_eq!(lost(&report), lost_with(&file), "{what} {file}: {:?}", report.findings);
                report
            };
            for cut in [0, 1, len / 2, len - 1] {
                victim.write(&victim.content[..cut.min(len - 1)]);
                damaged(&format!("cut to {cut}"));
            }
            if file == "vdb.copy.data" {
                victim.write(&[&victim.content[..], &[0; 512]].concat());
                damaged("grown");
            }
            victim.restore();
            for at in [0, len / 3, len / 2, len - 1] {
                victim.flip(at, 0x04);
                let report = damaged(&format!("flip {at}"));
                assert!(
                    names(&report, Level::Damage, &victim.path),
                    "flip {at} of {file}: {:?}",
                    report.findings
                );
                victim.restore();
            }
            std::fs::remove_file(&victim.path).unwrap();
            match SetFile::parse(&file) {
                // Nothing is lost with a sidecar but proof.
                Some(SetFile::Sidecar { .. }) => assert_eq!(lost(&verified(&set)), [""; 0], "delete {file}"),
                _ => drop(damaged("delete")),
            }
            victim.restore();
        }
        assert_eq!(verified(&set).verdict(), Verdict::Good, "all is as it was");
    }
}

#[test]
fn ours_exchange_two_files_of_a_kind() {
    let dir = tempfile::tempdir().unwrap();
    let set = ours(dir.path(), Compression::Lz4(1));
    let both = |one: &str, other: &str| [Victim::of(set.join(one)), Victim::of(set.join(other))];
    let cases = [
        ("vda.full.data", "vda.inc.virtnbdbackup.1.data", "0"),
        ("vda.inc.virtnbdbackup.1.data", "vda.inc.virtnbdbackup.2.data", "1"),
        ("vda.inc.virtnbdbackup.1.data.chksum", "vda.inc.virtnbdbackup.2.data.chksum", ""),
        ("vda.inc.virtnbdbackup.1.idx", "vda.inc.virtnbdbackup.2.idx", ""),
        ("vmconfig.virtnbdbackup.1.xml", "vmconfig.virtnbdbackup.2.xml", ""),
        ("vda.virtnbdbackup.0.qcow.json", "vda.virtnbdbackup.3.qcow.json", ""),
        ("OVMF_VARS.fd.virtnbdbackup.1", "OVMF_VARS.fd.virtnbdbackup.2", ""),
        ("checkpoints/virtnbdbackup.1.xml", "checkpoints/virtnbdbackup.2.xml", ""),
    ];
    for (one, other, first_lost) in cases {
        let [a, b] = both(one, other);
        a.write(&b.content);
        b.write(&a.content);
        let report = verified(&set);
        let found = report.findings.iter().filter(|finding| finding.level != Level::Unproven);
        let paths: Vec<_> = found.map(|finding| &finding.path).collect();
        assert!(!paths.is_empty(), "{one} and {other}");
        // A sidecar of another stream is stale, which is no damage; everything else is.
        let sidecars = one.ends_with(".idx");
        assert_eq!(
            report.verdict() == Verdict::Damaged,
            !sidecars,
            "{one} and {other}: {:?}",
            report.findings
        );
        let want: Vec<String> = match first_lost.parse::<u32>() {
            Ok(first) => (first..=NEWEST).map(|number| number.to_string()).collect(),
            Err(_) => Vec::new(),
        };
        assert_eq!(lost(&report), want, "{one} and {other}: {:?}", report.findings);
        a.restore();
        b.restore();
    }
    // A stream with all that belongs to it, in the place of another.
    let triples = ["data", "data.chksum", "idx"];
    let pairs = triples.map(|end| {
        both(&format!("vda.inc.virtnbdbackup.1.{end}"), &format!("vda.inc.virtnbdbackup.2.{end}"))
    });
    for [a, b] in &pairs {
        a.write(&b.content);
        b.write(&a.content);
    }
    let report = verified(&set);
    assert_eq!(
        (report.verdict(), lost(&report)),
        (Verdict::Damaged, lost_with("vda.inc.virtnbdbackup.1.data"))
    );
}

#[test]
fn times_in_the_wrong_order_are_named_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Golden::extract();
    for set in [ours(dir.path(), Compression::Lz4(1)), golden.lz4(), golden.plain()] {
        let before = verified(&set).verdict();
        let path = set.join("vda.full.data");
        let late = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_900_000_000));
        File::options().write(true).open(&path).unwrap().set_times(late).unwrap();
        let report = verified(&set);
        assert!(
            names(&report, Level::Warning, &set.join("vda.inc.virtnbdbackup.1.data")),
            "{:?}",
            report.findings
        );
        assert_eq!((report.verdict(), lost(&report)), (before, Vec::new()));
    }
}

/// How many bytes to flip: some hundreds, or as many as the environment says.
fn flips() -> u64 {
    std::env::var("DAMAGE_FLIPS").ok().map_or(300, |text| text.parse().unwrap())
}

/// Flips random bytes of random files, one at a time, and lets `check` judge each report.
fn flip_at_random(
    random: &mut Random,
    set: &Path,
    files: &[String],
    count: u64,
    check: impl Fn(&str, usize, &SetReport),
) {
    let victims: Vec<Victim> = files.iter().map(|file| Victim::of(set.join(file))).collect();
    for _ in 0..count {
        let number = random.below(victims.len() as u64) as usize;
        let victim = &victims[number];
        let at = random.below(victim.content.len() as u64) as usize;
        victim.flip(at, 1 + random.below(255) as u8);
        check(&files[number], at, &verified(set));
        victim.flip(at, 0);
    }
}

#[test]
fn no_flipped_byte_of_ours_is_missed() {
    let mut random = Random::seeded("DAMAGE_SEED", 0x5eed_f11b);
    let dir = tempfile::tempdir().unwrap();
    for compression in FORMS {
        let set = ours(dir.path(), compression);
        flip_at_random(&mut random, &set, &files(&set), flips() / 3, |file, at, report| {
            assert_eq!(report.verdict(), Verdict::Damaged, "byte {at} of {file}, {compression:?}");
            assert_eq!(
                lost(report),
                lost_with(file),
                "byte {at} of {file}, {compression:?}: {:?}",
                report.findings
            );
            assert!(
                names(report, Level::Damage, &set.join(file)),
                "byte {at} of {file}: {:?}",
                report.findings
            );
        });
        assert_eq!(verified(&set).verdict(), Verdict::Good);
    }
    println!("{} flips, none missed", flips() / 3 * 3);
}

#[test]
fn no_flipped_byte_of_an_old_stream_with_a_checksum_is_missed() {
    let mut random = Random::seeded("DAMAGE_SEED", 0x5eed_01d5);
    let golden = Golden::extract();
    for (set, points) in
        [(golden.lz4(), vec!["0", "1", "2", "3"]), (golden.plain(), vec!["0", "1", "diff.1795377788"])]
    {
        let streams: Vec<String> =
            files(&set).into_iter().filter(|file| set.join(format!("{file}.chksum")).exists()).collect();
        assert!(streams.len() >= 3);
        flip_at_random(&mut random, &set, &streams, flips() / 10, |file, at, report| {
            assert_eq!(report.verdict(), Verdict::Damaged, "byte {at} of {file}");
            let first = match SetFile::parse(file).unwrap() {
                SetFile::Stream { kind: StreamKind::Inc(name), .. } => name.number() as usize,
                SetFile::Stream { kind: StreamKind::Diff(_), .. } => 2,
                _ => 0,
            };
            assert_eq!(lost(report), points[first..], "byte {at} of {file}: {:?}", report.findings);
        });
    }
}

#[test]
fn what_nothing_checksums_in_an_old_set_is_listed_as_unproven() {
    let golden = Golden::extract();
    let set = golden.plain();
    let streams = ["vda.full.data", "vda.inc.virtnbdbackup.1.data", "vda.diff.1795377788.data"];
    for file in streams {
        std::fs::remove_file(set.join(format!("{file}.chksum"))).unwrap();
    }
    for flip_one in [false, true] {
        if flip_one {
            let victim = Victim::of(set.join(streams[0]));
            victim.flip(victim.content.len() / 2, 1);
        }
        let report = verified(&set);
        assert_eq!((report.verdict(), lost(&report)), (Verdict::CannotTell, Vec::new()), "{flip_one}");
        for file in streams.iter().chain(&["vdb.copy.data"]) {
            assert!(names(&report, Level::Unproven, &set.join(file)), "{file}: {:?}", report.findings);
        }
    }
}

/// Nothing lists a difference: the checksum beside its stream tells that there was one.
#[test]
fn a_difference_whose_stream_is_gone_is_missed() {
    let golden = Golden::extract();
    let set = golden.plain();
    std::fs::remove_file(set.join("vda.diff.1795377788.data")).unwrap();
    let report = verified(&set);
    assert_eq!(report.verdict(), Verdict::Damaged, "{:?}", report.findings);
    let missed = "Disk vda has no stream at diff.1795377788";
    assert!(report.findings.iter().any(|finding| finding.message == missed), "{:?}", report.findings);
}

/// Its stream is named after the second in which the run began, the files that are written last after that in which it
/// ended.
#[test]
fn a_difference_that_took_a_while_is_whole() {
    let golden = Golden::extract();
    let set = golden.plain();
    let before = verified(&set);
    for (name, later) in [
        ("vda.1795377788.qcow.json", "vda.1795377828.qcow.json"),
        ("vmconfig.1795377788.xml", "vmconfig.1795377828.xml"),
    ] {
        std::fs::rename(set.join(name), set.join(later)).unwrap();
    }
    let report = verified(&set);
    assert_eq!(report.verdict(), before.verdict(), "{:?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.level != Level::Damage), "{:?}", report.findings);
}

/// What a run that broke off leaves is one point; anything more was listed.
#[test]
fn a_list_that_lost_names_hides_no_points() {
    for (list, damaged) in [
        ("[]", true),
        ("[\"virtnbdbackup.0\"]", true),
        ("[\"virtnbdbackup.0\", \"virtnbdbackup.1\", \"virtnbdbackup.2\"]", false),
    ] {
        let golden = Golden::extract();
        let set = golden.lz4();
        let path = std::fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().path());
        let path = path.into_iter().find(|path| path.extension().is_some_and(|last| last == "cpt")).unwrap();
        std::fs::write(&path, list).unwrap();
        let report = verified(&set);
        assert_eq!(report.verdict() == Verdict::Damaged, damaged, "{list}: {:?}", report.findings);
        assert_eq!(names(&report, Level::Damage, &path), damaged, "{list}: {:?}", report.findings);
        assert_eq!(report.points.len(), if damaged { 4 } else { 3 }, "{list}");
        assert_eq!(lost(&report), Vec::<String>::new(), "{list}");
    }
}
