//! Raw images: their length, their content, and what a quick look reads of them.

use super::set_up::{findings, flip, good_points, no_image, verify};
use crate::ours::Ours;
use crate::program::VMSTREAM;
use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;
use vmstream::chain::BackupSet;
use vmstream::restore::{ExtractError, pipe_to};
use vmstream::verify::{Depth, Level, Verdict, VerifyOptions};

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

/// An image that is the same as a raw image of another length than was backed up is as wrong as that.
#[test]
fn a_raw_image_of_another_length_is_like_nothing() {
    for more in [-512_i64, 512] {
        let ours = Ours::new(Some(1));
        let raw = ours.path("vdb.copy.data");
        let len = fs::metadata(&raw).unwrap().len();
        let compare = || {
            let mut command = Command::new(VMSTREAM);
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
