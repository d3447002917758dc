//! The files beside the streams: sidecars that cannot be used, files that they list, pipes in the place of files.

use super::set_up::{findings, flip, good_points, verify};
use crate::ours::Ours;
use crate::program::VMSTREAM;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use vmstream::chain::BackupSet;
use vmstream::verify::{Depth, Level, Verdict};

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
                let mut command = Command::new(VMSTREAM);
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
            command.args(["60", VMSTREAM]).args(arguments).current_dir(ours.dir());
            let code = command.output().unwrap().status.code();
            let fine = matches!(code, Some(1 | 2)) || may_be_good && code == Some(0);
            assert!(fine, "{name:?} {arguments:?}: {code:?}");
        }
    }
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
