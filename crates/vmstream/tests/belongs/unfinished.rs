//! Points that another program has not finished, or took a while for.

use super::set_up::{at, convert_to, damaged, extracted, lost, verified, worths};
use crate::golden;
use crate::golden::{Golden, build, data_header};
use crate::program::{text, vmstream};
use std::fs;
use std::path::{Path, PathBuf};
use vmstream::chain::{BackupSet, PointId};
use vmstream::convert::Shape;
use vmstream::verify::{Depth, Verdict, Worth};

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
