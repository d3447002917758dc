//! What verification makes of sets with sidecars: nothing that changed passes, and what is only stale is no damage.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod ours;

use ours::{Change, DISK, GRANULE, Ours};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vmstream::chain::BackupSet;
use vmstream::restore::compare::{ImageFormat, compare};
use vmstream::restore::{ExtractError, ExtractOptions, Format, extract, pipe_to};
use vmstream::stream::{FrameKind, StreamFile};
use vmstream::verify::{Depth, Finding, Level, Proof, SetReport, Verdict, VerifyOptions, verify_set};

fn verify(dir: &Path, depth: Depth) -> SetReport {
    let set = BackupSet::open(dir).unwrap();
    verify_set(&set, VerifyOptions { depth, workers: NonZeroUsize::MIN }, &())
}

/// Findings but those about times, which no test here keeps.
fn findings(report: &SetReport) -> Vec<&Finding> {
    report
        .findings
        .iter()
        .filter(|finding| !finding.message.contains("not newer by a whole second"))
        .collect()
}

fn good_points(report: &SetReport) -> usize {
    report.points.iter().filter(|point| point.is_good()).count()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

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
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = std::env::var("SEED").map_or(nanos, |seed| seed.parse().unwrap()) as usize;
    println!("SEED={seed}");
    for level in [None, Some(1)] {
        let ours = Ours::new(level);
        for path in ours.files() {
            let good = fs::read(&path).unwrap();
            // Payloads are long and all alike; of small files every byte is tried in some runs.
            let step = if good.len() > 20_000 { 997 } else { good.len() / 100 + 1 };
            for at in (seed % step..good.len()).step_by(step) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (seed / 7 % 8);
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

fn options(check: bool) -> ExtractOptions {
    ExtractOptions { replace: true, format: Format::Raw, check, workers: NonZeroUsize::new(2).unwrap() }
}

#[test]
fn what_is_extracted_is_proven_while_it_is_written() {
    for level in [None, Some(1)] {
        let ours = Ours::new(level);
        let set = BackupSet::open(ours.dir()).unwrap();
        let out = ours.path("../proof.raw").with_file_name(format!("proof-{}.raw", std::process::id()));
        let (vda, vdb) = ("vda".parse().unwrap(), "vdb".parse().unwrap());
        for (number, want) in ours.disks.iter().enumerate() {
            let point = format!("virtnbdbackup.{number}").parse().unwrap();
            let done = extract(&set, &vda, point, &out, options(true), &()).unwrap();
            assert!(fs::read(&out).unwrap() == *want);
            assert_eq!((done.proven_bytes, done.wrong_bytes), (Some(DISK as u64), 0));
            let mut piped = Vec::new();
            let done = pipe_to(&set, &vda, point, (&mut piped, true), NonZeroUsize::MIN, &()).unwrap();
            assert!(piped == *want);
            assert_eq!(done.proven_bytes, Some(DISK as u64));
            let same = compare(&set, &vda, point, (&out, ImageFormat::Raw), NonZeroUsize::MIN, &()).unwrap();
            assert!(same.is_same());
            assert_eq!(same.checked.unwrap().proven_bytes, DISK as u64);
        }
        let newest = "virtnbdbackup.2".parse().unwrap();
        let done = extract(&set, &vdb, newest, &out, options(true), &()).unwrap();
        assert_eq!(done.proven_bytes, Some(ours.raw.len() as u64));
        // A sidecar that is gone or damaged stands in nobody's way.
        flip(&ours.path("vda.full.idx"), 40);
        let done = extract(&set, &vda, newest, &out, options(true), &()).unwrap();
        assert_eq!(done.proven_bytes, Some(2 * GRANULE as u64));
        fs::remove_file(ours.path("vda.inc.virtnbdbackup.2.idx")).unwrap();
        let done =
            extract(&BackupSet::open(ours.dir()).unwrap(), &vda, newest, &out, options(true), &()).unwrap();
        assert_eq!(done.proven_bytes, None);
        fs::remove_file(&out).unwrap();
    }
}

#[test]
fn a_disk_that_is_not_what_was_backed_up_is_not_given_out() {
    let mut ours = Ours::new(Some(1));
    let mut disk = ours.disks[2].clone();
    disk[..GRANULE].fill(0);
    ours.add(disk.clone(), &[Change::Forgotten(0..GRANULE), Change::Data(3 * GRANULE..3 * GRANULE + 512)]);
    let set = BackupSet::open(ours.dir()).unwrap();
    let (vda, point) = ("vda".parse().unwrap(), "virtnbdbackup.3".parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.raw");
    let refused = extract(&set, &vda, point, &out, options(true), &());
    assert!(matches!(refused, Err(ExtractError::Wrong { wrong }) if wrong == (0..GRANULE as u64)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of it");
    let mut piped = Vec::new();
    let refused = pipe_to(&set, &vda, point, (&mut piped, true), NonZeroUsize::MIN, &());
    assert!(matches!(refused, Err(ExtractError::Wrong { .. })) && piped.is_empty());
    let done = extract(&set, &vda, point, &out, options(false), &()).unwrap();
    assert_eq!((done.wrong_bytes, done.proven_bytes), (GRANULE as u64, Some((DISK - 2 * GRANULE) as u64)));
    // An image that is as wrong as the backup.
    let same = ["compare", ".", out.to_str().unwrap(), "--disk", "vda"];
    let said =
        Command::new(env!("CARGO_BIN_EXE_vmstream")).args(same).current_dir(ours.dir()).output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{}", String::from_utf8_lossy(&said.stdout));
    fs::write(&out, &disk).unwrap();
    let found = compare(&set, &vda, point, (&out, ImageFormat::Raw), NonZeroUsize::MIN, &()).unwrap();
    assert!(!found.is_same());
    assert_eq!(found.checked.unwrap().wrong_bytes(), GRANULE as u64);
    // And the program says so.
    let arguments = ["extract", ".", "--disk", "vda", "-o", "-"];
    let program = env!("CARGO_BIN_EXE_vmstream");
    let said = Command::new(program).args(arguments).current_dir(ours.dir()).output().unwrap();
    assert_eq!((said.status.code(), said.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&said.stderr).contains("is not what was backed up"));
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

fn no_image(
    ours: &Ours,
    disk: &str,
    point: &str,
    check: bool,
) -> Result<vmstream::restore::Extracted, ExtractError> {
    let set = BackupSet::open(ours.dir()).unwrap();
    let options = ExtractOptions { replace: true, format: Format::Raw, check, workers: NonZeroUsize::MIN };
    extract(&set, &disk.parse().unwrap(), point.parse().unwrap(), &ours.path("out.img"), options, &())
}

#[test]
fn a_raw_image_that_was_cut_or_is_gone_is_no_good_image() {
    for depth in [Depth::Quick, Depth::Content, Depth::Deep] {
        let ours = Ours::new(Some(1));
        let image = ours.path("vdb.copy.data");
        let len = fs::metadata(&image).unwrap().len();
        fs::File::options().write(true).open(&image).unwrap().set_len(len - 512).unwrap();
        let report = verify(ours.dir(), depth);
        let first = findings(&report)[0];
        assert_eq!((first.level, &first.path, first.at), (Level::Damage, &image, Some(len - 512)));
        assert_eq!((report.verdict(), good_points(&report)), (Verdict::Damaged, 0));
        let refused = no_image(&ours, "vdb", "virtnbdbackup.2", true);
        assert!(matches!(refused, Err(ExtractError::RawLength { .. })), "{refused:?}");
        let set = BackupSet::open(ours.dir()).unwrap();
        let at = "virtnbdbackup.0".parse().unwrap();
        let piped =
            pipe_to(&set, &"vdb".parse().unwrap(), at, (&mut Vec::new(), true), NonZeroUsize::MIN, &());
        assert!(matches!(piped, Err(ExtractError::RawLength { .. })), "{piped:?}");
        assert_eq!(no_image(&ours, "vdb", "virtnbdbackup.2", false).unwrap().size, len - 512);

        fs::remove_file(&image).unwrap();
        let report = verify(ours.dir(), depth);
        assert_eq!((report.verdict(), good_points(&report)), (Verdict::Damaged, 0));
        assert!(findings(&report).iter().any(|finding| finding.path == image));
        let refused = no_image(&ours, "vdb", "virtnbdbackup.2", true);
        assert!(
            matches!(refused, Err(ExtractError::Set(vmstream::chain::SetError::Lost { .. }))),
            "{refused:?}"
        );
        // As a run leaves it that was killed between the names of the two.
        fs::write(ours.path("vdb.copy.data.partial"), b"").unwrap();
        assert_eq!(verify(ours.dir(), Depth::Quick).verdict(), Verdict::Good);
    }
}

#[test]
fn a_damaged_checksum_file_costs_no_proof() {
    let ours = Ours::new(Some(1));
    fs::write(ours.path("vda.inc.virtnbdbackup.1.data.chksum"), "4711").unwrap();
    let extracted = no_image(&ours, "vda", "virtnbdbackup.2", true).unwrap();
    assert_eq!(extracted.proven_bytes, Some(DISK as u64));
    let report = verify(ours.dir(), Depth::Deep);
    let proven =
        |found: &vmstream::verify::DiskDigest| found.checked.as_ref().map(|checked| checked.proven_bytes);
    let of_vda = report.digests.iter().filter(|found| found.disk.as_str() == "vda");
    assert_eq!(of_vda.map(proven).collect::<Vec<_>>(), [Some(DISK as u64); 3]);
    let stream = ours.path("vda.inc.virtnbdbackup.1.data");
    // Where the stream agrees with its checksum file, the sidecar is of another one.
    let mut bytes = fs::read(&stream).unwrap();
    let taken = bytes.windows(4).position(|part| part == b"2026").unwrap();
    bytes[taken + 3] = b'5';
    fs::write(&stream, &bytes).unwrap();
    fs::write(stream.with_extension("data.chksum"), vmstream::stream::checksum::adler32(&bytes).to_string())
        .unwrap();
    let extracted = no_image(&ours, "vda", "virtnbdbackup.2", true).unwrap();
    assert!(extracted.proven_bytes < Some(DISK as u64), "{extracted:?}");
}

/// A sidecar that lists a file of that name and size, in the place of the newest one.
fn list_a_file(ours: &Ours, name: &str, size: u64) {
    let path = ours.path("vda.inc.virtnbdbackup.2.idx");
    let old = vmstream::sidecar::Sidecar::open(&path).unwrap();
    let mut head = old.head().clone();
    head.files = vec![vmstream::sidecar::FileIdentity { name: name.to_owned(), size, digest: [7; 32] }];
    let mut writer = vmstream::sidecar::SidecarWriter::create(&ours.path("new.idx"), head.granules).unwrap();
    old.blocks().for_each(|block| writer.block(&block.unwrap()).unwrap());
    old.runs().for_each(|run| writer.run(&run.unwrap()).unwrap());
    writer.finish(&head).unwrap();
    fs::rename(ours.path("new.idx"), path).unwrap();
}

#[test]
fn a_listed_file_is_opened_only_when_it_can_be_the_one() {
    let ours = Ours::new(Some(1));
    assert!(Command::new("mkfifo").arg(ours.path("pipe")).status().unwrap().success());
    for (name, size) in
        [("pipe", 0), ("pipe", 4), ("vmconfig.virtnbdbackup.2.xml", u64::MAX), ("checkpoints", 0)]
    {
        list_a_file(&ours, name, size);
        let report = verify(ours.dir(), Depth::Content);
        let named = findings(&report).into_iter().find(|finding| finding.path == ours.path(name)).unwrap();
        assert_eq!(named.level, Level::Damage, "{name} of {size} bytes: {named:?}");
    }
}

/// Makes a file that the system cannot open: a link that leads to itself.
fn unreadable(path: &Path) {
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
}

#[test]
fn a_sidecar_that_cannot_be_used_is_named_by_whoever_needs_it() {
    // Not held open: who uses an image keeps others from replacing it.
    let images = tempfile::tempdir().unwrap();
    let image = images.path().join("image");
    for (name, disk) in [("vda.inc.virtnbdbackup.1.idx", "vda"), ("vdb.copy.idx", "vdb")] {
        for (what, spoil) in [("unreadable", unreadable as fn(&Path)), ("flipped", |path| flip(path, 40))] {
            let ours = Ours::new(Some(1));
            spoil(&ours.path(name));
            for depth in [Depth::Quick, Depth::Content, Depth::Deep] {
                let report = verify(ours.dir(), depth);
                let want = match (what, depth) {
                    ("unreadable", _) => (Verdict::CannotTell, true),
                    (_, Depth::Quick) => (Verdict::Good, false),
                    _ => (Verdict::Damaged, true),
                };
                let named = findings(&report).iter().any(|finding| finding.path == ours.path(name));
                assert_eq!((report.verdict(), named), want, "{name} {what} {depth:?}");
                assert_eq!(good_points(&report), 3, "{name} {what} {depth:?}");
            }
            let run = |arguments: &[&str]| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_vmstream"));
                let said = command.args(arguments).current_dir(ours.dir()).output().unwrap();
                let text = String::from_utf8(said.stderr).unwrap();
                assert!(text.contains(&format!("{name} is not used")), "{arguments:?} {text}");
                assert_eq!(said.status.code(), Some(0), "{arguments:?} {text}");
                said.stdout
            };
            let want = if disk == "vda" { &ours.disks[2] } else { &ours.raw };
            assert!(run(&["extract", ".", "--disk", disk, "-o", "-"]) == *want);
            let path = image.to_str().unwrap();
            run(&["extract", ".", "--disk", disk, "-o", path, "--force"]);
            assert!(fs::read(path).unwrap() == *want);
            run(&["compare", ".", path, "--disk", disk]);
            let new = tempfile::tempdir().unwrap();
            run(&["convert", ".", "--to", new.path().join("new").to_str().unwrap()]);
        }
    }
    // What it was of, the sidecar of the other disk tells.
    let ours = Ours::new(Some(1));
    unreadable(&ours.path("vdb.copy.idx"));
    fs::remove_file(ours.path("vdb.copy.data")).unwrap();
    assert_eq!(verify(ours.dir(), Depth::Quick).verdict(), Verdict::Damaged);
}

#[test]
fn no_pipe_in_the_place_of_a_file_is_waited_for() {
    let names: Vec<_> =
        Ours::new(None).files().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    for name in names {
        let ours = Ours::new(None);
        let place = if ours.path("checkpoints").join(&name).exists() {
            ours.path("checkpoints")
        } else {
            ours.path("")
        };
        let path = place.join(&name);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let file = path.to_str().unwrap();
        let new = tempfile::tempdir().unwrap();
        let to = new.path().join("new");
        let image = new.path().join("image");
        let (to, image) = (to.to_str().unwrap(), image.to_str().unwrap());
        for (arguments, may_be_good) in [
            (&["verify", "."][..], false),
            (&["verify", ".", "--quick"], true),
            (&["verify", ".", "--deep"], false),
            (&["verify", file], false),
            (&["info", "."], true),
            (&["info", file], true),
            (&["doctor", "."], true),
            (&["map", "."], true),
            (&["extract", ".", "--disk", "vda", "-o", image], true),
            (&["compare", ".", "/dev/null", "--disk", "vdb"], false),
            (&["convert", ".", "--to", to], true),
        ] {
            let mut command = Command::new("timeout");
            command.args(["60", env!("CARGO_BIN_EXE_vmstream")]).args(arguments).current_dir(ours.dir());
            let code = command.output().unwrap().status.code();
            let fine = matches!(code, Some(1 | 2)) || may_be_good && code == Some(0);
            assert!(fine, "{name:?} {arguments:?}: {code:?}");
        }
    }
}

/// An image that is the same as a raw image of another length than was backed up is as wrong as that.
#[test]
fn a_raw_image_of_another_length_is_like_nothing() {
    for more in [-512_i64, 512] {
        let ours = Ours::new(Some(1));
        let raw = ours.path("vdb.copy.data");
        let len = fs::metadata(&raw).unwrap().len();
        let compare = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vmstream"));
            command.args(["compare", ".", "same", "--disk", "vdb"]).current_dir(ours.dir()).output().unwrap()
        };
        fs::copy(&raw, ours.path("same")).unwrap();
        assert_eq!(compare().status.code(), Some(0));
        fs::File::options()
            .write(true)
            .open(&raw)
            .unwrap()
            .set_len(len.checked_add_signed(more).unwrap())
            .unwrap();
        fs::copy(&raw, ours.path("same")).unwrap();
        let done = compare();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{more}: {said}");
        assert!(said.contains("error: ./vdb.copy.data: ") && !said.contains("--no-check"), "{more}: {said}");
    }
}

#[test]
fn a_quick_look_at_one_raw_image_reads_none_of_it() {
    let ours = Ours::new(Some(1));
    flip(&ours.path("vdb.copy.data"), 70);
    let verify = |depth| {
        let file = vmstream::chain::open_file(&ours.path("vdb.copy.data")).unwrap();
        vmstream::verify::verify_file(&file, VerifyOptions { depth, workers: NonZeroUsize::MIN }, &())
            .verdict()
    };
    assert_eq!(verify(Depth::Quick), Verdict::Good);
    assert_eq!(verify(Depth::Content), Verdict::Damaged);
    fs::File::options().write(true).open(ours.path("vdb.copy.data")).unwrap().set_len(70).unwrap();
    assert_eq!(verify(Depth::Quick), Verdict::Damaged);
}

/// Moves a file, as a run that was killed leaves it.
fn moved(ours: &Ours, from: &str, to: &str) {
    fs::rename(ours.path(from), ours.path(to)).unwrap();
}

#[test]
fn what_was_never_committed_is_not_damaged() {
    // A full of two disks, dead before its list got its name; at first one stream more was unfinished.
    let mut ours = Ours::empty(Some(1));
    ours.add(vec![1; DISK], &[Change::Data(0..DISK)]);
    moved(&ours, "web.cpt", "web.cpt.partial");
    let verdict = |ours: &Ours| verify(ours.dir(), Depth::Content).verdict();
    assert_eq!(verdict(&ours), Verdict::CannotTell);
    moved(&ours, "vda.full.data", "vda.full.data.partial");
    assert_eq!(verdict(&ours), Verdict::CannotTell);
    moved(&ours, "web.cpt.partial", "web.cpt");
    assert_eq!(verdict(&ours), Verdict::Damaged, "a stream of a point that exists is gone");

    // A list that waits and names more is of an increment: the chain has lost its own.
    let ours = Ours::new(Some(1));
    moved(&ours, "web.cpt", "web.cpt.partial");
    assert_eq!(verdict(&ours), Verdict::Damaged);

    // A copy, and the chain in its way on its way to the archive.
    let ours = Ours::new(Some(1));
    fs::remove_file(ours.path("web.cpt")).unwrap();
    fs::write(ours.path("vmconfig.copy.xml.partial"), "<domain/>").unwrap();
    assert_eq!(verdict(&ours), Verdict::CannotTell);
    fs::remove_file(ours.path("vmconfig.copy.xml.partial")).unwrap();
    assert_eq!(verdict(&ours), Verdict::Damaged);

    // A disk that was added, dead before all its placeholders had their names.
    let ours = Ours::new(Some(1));
    fs::write(ours.path("vdc.full.data.chksum"), "1").unwrap();
    fs::write(ours.path("vdc.full.data.partial"), "").unwrap();
    assert_eq!(verdict(&ours), Verdict::Damaged);
    fs::write(ours.path("web.cpt.partial"), "[]").unwrap();
    assert_eq!(verdict(&ours), Verdict::Good);
}

#[test]
fn a_copy_is_none_before_its_definition_is_there() {
    let ours = Ours::new(Some(1));
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in
        [("vdb.copy.data", "vdb.copy.data"), ("vmconfig.virtnbdbackup.0.xml", "vmconfig.copy.xml")]
    {
        fs::copy(ours.path(from), dir.path().join(to)).unwrap();
    }
    let points = || BackupSet::open(dir.path()).unwrap().points.len();
    let damaged = || verify(dir.path(), Depth::Quick).verdict() == Verdict::Damaged;
    assert_eq!((points(), damaged()), (1, false));
    let (name, waiting) =
        (dir.path().join("vmconfig.copy.xml"), dir.path().join("vmconfig.copy.xml.partial"));
    fs::rename(&name, &waiting).unwrap();
    assert_eq!((points(), damaged()), (0, false));
    fs::remove_file(&waiting).unwrap();
    assert_eq!((points(), damaged()), (1, true), "it can be restored, its definition is lost");
}

#[test]
fn the_files_of_a_tpm_are_checked_where_their_point_lists_them() {
    use vmstream::sidecar::FileIdentity;
    let ours = Ours::new(Some(1));
    // The newest point: no other sidecar says which its own is.
    let folder = ours.path(".tpm-state.virtnbdbackup.2");
    fs::create_dir_all(folder.join("tpm2")).unwrap();
    let state = folder.join("tpm2/tpm2-00.permall");
    fs::write(&state, b"secret").unwrap();
    let name = ".identity.virtnbdbackup.2.json";
    let identity = ours.path(name);
    let damage = || {
        let report = verify(ours.dir(), Depth::Content);
        let damaged = report.findings.iter().filter(|finding| finding.level == Level::Damage);
        assert_eq!(good_points(&report), 3, "{:?}", report.findings);
        damaged.map(|finding| finding.path.clone()).collect::<Vec<_>>()
    };
    let write = |text: &str| {
        fs::write(&identity, text).unwrap();
        list_in_sidecar(&ours.path("vda.inc.virtnbdbackup.2.idx"), name, text);
    };
    // Of earlier programs.
    for text in ["{}", "{\"tpm_state\": null}", "no JSON"] {
        write(text);
        assert_eq!(damage().len(), 0);
    }
    let listed = FileIdentity::of("tpm2/tpm2-00.permall", b"secret").to_json();
    write(&format!("{{\"tpm_state\": [{listed}]}}"));
    assert_eq!(damage().len(), 0);
    flip(&state, 3);
    assert_eq!(damage(), std::slice::from_ref(&state));
    fs::remove_file(&state).unwrap();
    assert_eq!(damage(), std::slice::from_ref(&state));
    let outside = FileIdentity::of("../web.cpt", b"secret").to_json();
    write(&format!("{{\"tpm_state\": [{outside}]}}"));
    assert_eq!(damage(), std::slice::from_ref(&identity));
    // Where no sidecar of the point lists it, it is of another chain: nothing is held against it.
    let has_identity =
        || BackupSet::open(ours.dir()).unwrap().has_identity("virtnbdbackup.2".parse().unwrap());
    assert!(has_identity());
    list_in_sidecar(&ours.path("vda.inc.virtnbdbackup.2.idx"), name, "of another");
    assert!(!has_identity());
    assert_eq!(damage(), [identity], "not the file that was written with the point");
    let bare = Ours::new(Some(1));
    fs::write(bare.path(name), format!("{{\"tpm_state\": [{listed}]}}")).unwrap();
    assert!(!BackupSet::open(bare.dir()).unwrap().has_identity("virtnbdbackup.2".parse().unwrap()));
    assert_eq!(verify(bare.dir(), Depth::Content).verdict(), Verdict::Good);
}

/// Writes a sidecar anew that lists a file, in place of what it listed under that name.
fn list_in_sidecar(path: &Path, name: &str, content: &str) {
    use vmstream::sidecar::{FileIdentity, Sidecar, SidecarWriter};
    let old = Sidecar::open(path).unwrap();
    let mut head = old.head().clone();
    head.files.retain(|file| file.name != name);
    head.files.push(FileIdentity::of(name, content.as_bytes()));
    let new = path.with_extension("new");
    let mut writer = SidecarWriter::create(&new, head.granules).unwrap();
    old.blocks().for_each(|block| writer.block(&block.unwrap()).unwrap());
    old.runs().for_each(|run| writer.run(&run.unwrap()).unwrap());
    writer.finish(&head).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn plain_content_is_held_against_its_blocks_where_granules_tell_nothing() {
    let ours = Ours::new(None);
    // Without the newest sidecar nothing is known of the disk.
    fs::remove_file(ours.path("vda.inc.virtnbdbackup.2.idx")).unwrap();
    let stream = StreamFile::open(&ours.path("vda.full.data")).unwrap();
    let last =
        stream.frames().map(Result::unwrap).filter(|f| f.header.kind == FrameKind::Data).last().unwrap();
    flip(&ours.path("vda.full.data"), last.stored_at as usize + 9);
    let refused = no_image(&ours, "vda", "virtnbdbackup.2", true).unwrap_err();
    assert!(
        matches!(&refused, ExtractError::Map(map) if map.path == ours.path("vda.full.data")),
        "{refused:?}"
    );
    let set = BackupSet::open(ours.dir()).unwrap();
    let (vda, at) = ("vda".parse().unwrap(), "virtnbdbackup.2".parse().unwrap());
    let pipe = |check| pipe_to(&set, &vda, at, (&mut Vec::new(), check), NonZeroUsize::MIN, &());
    assert!(matches!(pipe(true), Err(ExtractError::Map(_))));
    assert!(pipe(false).is_ok() && no_image(&ours, "vda", "virtnbdbackup.2", false).is_ok());
}

/// Where a frame belongs stands in its header, which no block and no compression covers: the checksum of the file does.
#[test]
fn a_frame_at_another_place_is_not_given_out_where_granules_tell_nothing() {
    for level in [None, Some(1)] {
        let ours = Ours::new(level);
        // Of the newest: nothing is known of the disk.
        fs::remove_file(ours.path("vda.inc.virtnbdbackup.2.idx")).unwrap();
        let path = ours.path("vda.inc.virtnbdbackup.1.data");
        let good = fs::read(&path).unwrap();
        let (header, other) = (b"data 0000000000000000 ", b"data 0000000000000002 ");
        let at = good.windows(header.len()).position(|part| part == header).unwrap();
        let mut bad = good.clone();
        bad[at..at + other.len()].copy_from_slice(other);
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("right.raw");
        fs::write(&image, &ours.disks[2]).unwrap();
        for (content, right) in [(&good, true), (&bad, false)] {
            fs::write(&path, content).unwrap();
            let done = no_image(&ours, "vda", "virtnbdbackup.2", true);
            assert_eq!(done.is_ok(), right, "{level:?} {done:?}");
            let set = BackupSet::open(ours.dir()).unwrap();
            let (vda, point) = ("vda".parse().unwrap(), "virtnbdbackup.2".parse().unwrap());
            let piped = pipe_to(&set, &vda, point, (&mut Vec::new(), true), NonZeroUsize::MIN, &());
            assert_eq!(piped.is_ok(), right, "{level:?} {piped:?}");
            let same = compare(&set, &vda, point, (&image, ImageFormat::Raw), NonZeroUsize::MIN, &());
            assert_eq!(same.is_ok_and(|same| same.is_same()), right, "{level:?}");
            assert!(no_image(&ours, "vda", "virtnbdbackup.2", false).is_ok());
        }
    }
}

#[test]
fn a_stream_in_the_place_of_another_is_not_given_out() {
    let ours = Ours::new(Some(1));
    let (one, other) = (ours.path("vda.inc.virtnbdbackup.1.data"), ours.path("vda.inc.virtnbdbackup.2.data"));
    let stream = fs::read(&one).unwrap();
    fs::copy(&other, &one).unwrap();
    fs::write(&other, stream).unwrap();
    for (point, whole) in [("virtnbdbackup.0", true), ("virtnbdbackup.1", false), ("virtnbdbackup.2", false)]
    {
        let done = no_image(&ours, "vda", point, true);
        assert_eq!(done.is_ok(), whole, "{point}: {done:?}");
        assert!(whole || matches!(done, Err(ExtractError::Misplaced { .. })), "{point}: {done:?}");
        assert!(no_image(&ours, "vda", point, false).is_ok(), "{point}");
    }
}

#[test]
fn damage_to_the_files_beside_is_not_made_right_by_writing_the_set_again() {
    use vmstream::convert::{Compression, ConvertError, ConvertOptions, Shape, convert};
    use vmstream::stream::writer::FRAME_LEN;
    let options = ConvertOptions {
        compression: Compression::Lz4(1),
        frame_len: FRAME_LEN,
        check: true,
        workers: NonZeroUsize::MIN,
    };
    let newest = Shape::Full("virtnbdbackup.2".parse().unwrap());
    for (name, matters_to_full) in [
        ("vmconfig.virtnbdbackup.2.xml", true),
        ("VARS.fd.virtnbdbackup.2", true),
        ("vmconfig.virtnbdbackup.1.xml", false),
        ("checkpoints/virtnbdbackup.0.xml", false),
    ] {
        let ours = Ours::new(Some(1));
        flip(&ours.path(name), 3);
        let new = tempfile::tempdir().unwrap();
        let set = BackupSet::open(ours.dir()).unwrap();
        let run = |shape, to| convert(&set, shape, &new.path().join(to), options, &());
        let all = run(Shape::SamePoints, "all");
        assert!(matches!(all, Err(ConvertError::DamagedSet { .. })), "{name} {all:?}");
        assert_eq!(run(newest, "full").is_err(), matters_to_full, "{name}");
    }
}
