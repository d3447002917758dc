//! What is given out is proven, and what is wrong is not given out.

use super::set_up::{flip, no_image, options, verify};
use crate::ours::{Change, DISK, GRANULE, Ours};
use crate::program::{VMSTREAM, wait_until_free};
use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;
use vmstream::chain::{BackupSet, DiskTarget, PointId};
use vmstream::restore::compare::{ImageFormat, compare};
use vmstream::restore::{ExtractError, extract, pipe_to};
use vmstream::stream::{FrameKind, StreamFile};
use vmstream::verify::Depth;

#[test]
fn what_is_extracted_is_proven_while_it_is_written() {
    for level in [None, Some(1)] {
        let ours = Ours::new(level);
        let set = BackupSet::open(ours.dir()).unwrap();
        let out = ours.path("../proof.raw").with_file_name(format!("proof-{}.raw", std::process::id()));
        let extracted = |set: &BackupSet, disk: &DiskTarget, point: PointId| {
            wait_until_free(&out);
            extract(set, disk, point, &out, options(true), &()).unwrap()
        };
        let (vda, vdb) = ("vda".parse().unwrap(), "vdb".parse().unwrap());
        for (number, want) in ours.disks.iter().enumerate() {
            let point = format!("virtnbdbackup.{number}").parse().unwrap();
            let done = extracted(&set, &vda, point);
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
        let done = extracted(&set, &vdb, newest);
        assert_eq!(done.proven_bytes, Some(ours.raw.len() as u64));
        // A sidecar that is gone or damaged stands in nobody's way.
        flip(&ours.path("vda.full.idx"), 40);
        let done = extracted(&set, &vda, newest);
        assert_eq!(done.proven_bytes, Some(2 * GRANULE as u64));
        fs::remove_file(ours.path("vda.inc.virtnbdbackup.2.idx")).unwrap();
        let done = extracted(&BackupSet::open(ours.dir()).unwrap(), &vda, newest);
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
    wait_until_free(&out);
    let done = extract(&set, &vda, point, &out, options(false), &()).unwrap();
    assert_eq!((done.wrong_bytes, done.proven_bytes), (GRANULE as u64, Some((DISK - 2 * GRANULE) as u64)));
    // An image that is as wrong as the backup.
    let same = ["compare", ".", out.to_str().unwrap(), "--disk", "vda"];
    let said = Command::new(VMSTREAM).args(same).current_dir(ours.dir()).output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{}", String::from_utf8_lossy(&said.stdout));
    fs::write(&out, &disk).unwrap();
    let found = compare(&set, &vda, point, (&out, ImageFormat::Raw), NonZeroUsize::MIN, &()).unwrap();
    assert!(!found.is_same());
    assert_eq!(found.checked.unwrap().wrong_bytes(), GRANULE as u64);
    // And the program says so.
    let arguments = ["extract", ".", "--disk", "vda", "-o", "-"];
    let program = VMSTREAM;
    let said = Command::new(program).args(arguments).current_dir(ours.dir()).output().unwrap();
    assert_eq!((said.status.code(), said.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&said.stderr).contains("is not what was backed up"));
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
