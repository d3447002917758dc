//! What was never committed is not damaged.

use super::set_up::verify;
use crate::ours::{Change, DISK, Ours};
use std::fs;
use vmstream::chain::BackupSet;
use vmstream::verify::{Depth, Verdict};

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
