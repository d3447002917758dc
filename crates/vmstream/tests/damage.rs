//! The damage grid: delete, truncate or flip a byte of each part of a set; each cell says what survives.

use crate::golden::Golden;
use crate::program::VMSTREAM;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use vmstream::stream::{FrameKind, StreamFile};

struct Verified {
    exit: i32,
    json: Value,
}

impl Verified {
    fn of(dir: &Path) -> Self {
        let done = Command::new(VMSTREAM).args(["verify", "--json"]).arg(dir).output().unwrap();
        let mut json = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
        let json = json["sets"].as_array_mut().and_then(Vec::pop).unwrap_or(Value::Null);
        Self { exit: done.status.code().unwrap(), json }
    }

    fn names(&self, key: &str) -> Vec<String> {
        let name = |point: &Value| point.as_str().unwrap().trim_start_matches("virtnbdbackup.").to_owned();
        self.json[key].as_array().unwrap().iter().map(name).collect()
    }

    /// Findings that are damage, of one file.
    fn damage(&self, file: &str) -> Vec<&Value> {
        let all = self.json["findings"].as_array().unwrap().iter();
        all.filter(|found| found["level"] == "damage" && found["file"].as_str().unwrap().ends_with(file))
            .collect()
    }
}

/// Where the parts of a compressed stream lie.
struct Places {
    meta: usize,
    data: usize,
    header: usize,
    trailer: usize,
}

fn places(path: &Path) -> Places {
    let stream = StreamFile::open(path).unwrap();
    let frame =
        stream.frames().map(Result::unwrap).find(|frame| frame.header.kind == FrameKind::Data).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let trailer_len =
        u64::from_str_radix(std::str::from_utf8(&bytes[bytes.len() - 18..bytes.len() - 2]).unwrap(), 16);
    Places {
        meta: 60,
        data: frame.stored_at as usize + 30,
        header: frame.stored_at as usize - 30,
        trailer: bytes.len() - 42 - trailer_len.unwrap() as usize + 1,
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, len: usize) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len as u64).unwrap();
}

/// What is done to a file.
type Damage = fn(&Path);

const ALL: [&str; 4] = ["0", "1", "2", "3"];

/// Damages one stream of a fresh set, and says that its point and all later ones are lost, none before.
fn lost_from(file: &str, point: usize, what: &str, damage: impl FnOnce(&Path)) -> Verified {
    let golden = Golden::extract();
    damage(&golden.lz4().join(file));
    let found = Verified::of(&golden.lz4());
    assert_eq!(found.exit, 1, "{what} {file}");
    assert_eq!(found.names("good_points"), ALL[..point], "{what} {file}");
    assert_eq!(found.names("lost_points"), ALL[point..], "{what} {file}");
    found
}

#[test]
fn streams_delete_truncate_flip_in_every_part() {
    let golden = Golden::extract();
    for (file, point) in
        [("vda.full.data", 0), ("vda.inc.virtnbdbackup.1.data", 1), ("vda.inc.virtnbdbackup.2.data", 2)]
    {
        let part = places(&golden.lz4().join(file));
        lost_from(file, point, "delete", |path| std::fs::remove_file(path).unwrap());
        for (name, at) in
            [("meta", part.meta), ("data", part.data), ("header", part.header), ("trailer", part.trailer)]
        {
            let cut = lost_from(file, point, &format!("truncate in {name}"), |path| truncate(path, at));
            assert!(!cut.damage(file).is_empty(), "truncate in {name}");
            let flipped = lost_from(file, point, &format!("flip in {name}"), |path| flip(path, at));
            assert!(!flipped.damage(file).is_empty(), "flip in {name}");
        }
    }
}

#[test]
fn a_flipped_data_byte_is_named_with_frame_offset_and_disk_range() {
    let golden = Golden::extract();
    let path = golden.lz4().join("vda.inc.virtnbdbackup.1.data");
    let stream = StreamFile::open(&path).unwrap();
    let frames: Vec<_> =
        stream.frames().map(Result::unwrap).filter(|frame| frame.header.kind == FrameKind::Data).collect();
    let last = frames.last().unwrap();
    flip(&path, last.stored_at as usize + 500);
    let found = Verified::of(&golden.lz4());
    let damage = found.damage("vda.inc.virtnbdbackup.1.data");
    assert_eq!(damage.len(), 2, "the LZ4 piece and the checksum: {damage:?}");
    let piece = damage.iter().find(|found| found["frame"].is_u64()).unwrap();
    assert_eq!(piece["frame"], last.index);
    assert_eq!(piece["file_offset"], last.stored_at);
    assert_eq!(
        (&piece["disk_start"], &piece["disk_end"]),
        (&last.disk().start.into(), &last.disk().end.into())
    );
}

#[test]
fn damage_to_one_disk_leaves_the_other_and_goes_on() {
    let golden = Golden::extract();
    for file in ["vdb.full.data", "vda.inc.virtnbdbackup.2.data"] {
        let path = golden.lz4().join(file);
        flip(&path, places(&path).data);
    }
    let found = Verified::of(&golden.lz4());
    assert_eq!(found.exit, 1);
    assert!(
        !found.damage("vdb.full.data").is_empty() && !found.damage("vda.inc.virtnbdbackup.2.data").is_empty()
    );
    let disks: Vec<(String, String)> = found.json["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| {
            let word = |disk: &str| point["disks"][disk].as_str().unwrap().to_owned();
            (word("vda"), word("vdb"))
        })
        .collect();
    let want = [("good", "lost"), ("good", "lost"), ("lost", "lost"), ("lost", "lost")];
    assert_eq!(disks, want.map(|(vda, vdb)| (vda.to_owned(), vdb.to_owned())));
}

#[test]
fn an_uncompressed_byte_is_found_by_its_checksum_alone() {
    let golden = Golden::extract();
    let path = golden.plain().join("vda.inc.virtnbdbackup.1.data");
    let stream = StreamFile::open(&path).unwrap();
    let frame =
        stream.frames().map(Result::unwrap).find(|frame| frame.header.kind == FrameKind::Data).unwrap();
    flip(&path, frame.stored_at as usize + 4711);
    let found = Verified::of(&golden.plain());
    assert_eq!(found.exit, 1);
    assert_eq!(found.names("good_points"), ["0"]);
    assert_eq!(found.names("lost_points"), ["1", "diff.1795377788"]);
    // Without the checksum nothing can tell, though the full is proven.
    std::fs::remove_file(golden.plain().join("vda.inc.virtnbdbackup.1.data.chksum")).unwrap();
    let blind = Verified::of(&golden.plain());
    assert_eq!((blind.exit, blind.names("lost_points")), (2, Vec::<String>::new()));
    assert_eq!(
        blind.names("unproven_points"),
        ["0", "1", "diff.1795377788"],
        "their image is not proven either"
    );
    let unproven = blind.json["findings"].as_array().unwrap().iter();
    assert_eq!(unproven.filter(|found| found["level"] == "unproven").count(), 2);
}

#[test]
fn a_set_that_proves_nothing_is_not_called_good() {
    let golden = Golden::extract();
    for entry in std::fs::read_dir(golden.plain()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "chksum") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(Verified::of(&golden.plain()).exit, 2);
}

#[test]
fn the_checkpoint_list_delete_truncate_flip() {
    let list = |golden: &Golden| golden.lz4().join("gold1.cpt");
    let cases: [(&str, Damage, &[&str]); 4] = [
        ("delete", |path| std::fs::remove_file(path).unwrap(), &ALL),
        ("truncate", |path| truncate(path, 30), &ALL),
        ("flip a quote", |path| flip(path, 1), &ALL),
        // The last name becomes virtnbdbackup.s: foreign, so the streams' names are used.
        ("flip a number", |path| flip(path, 73), &ALL),
    ];
    for (name, damage, good) in cases {
        let golden = Golden::extract();
        damage(&list(&golden));
        let found = Verified::of(&golden.lz4());
        assert_eq!(found.exit, 1, "{name}");
        assert_eq!(found.names("good_points"), good, "{name}");
    }
}

#[test]
fn a_list_that_names_more_or_other_points_tells_what_is_lost() {
    let golden = Golden::extract();
    let list = golden.lz4().join("gold1.cpt");
    let names = |numbers: &[u32]| {
        let names: Vec<String> = numbers.iter().map(|n| format!("\"virtnbdbackup.{n}\"")).collect();
        std::fs::write(&list, format!("[{}]", names.join(", "))).unwrap();
    };
    names(&[0, 1, 2, 3, 4]);
    let more = Verified::of(&golden.lz4());
    assert_eq!((more.exit, more.names("lost_points")), (1, vec!["4".to_owned()]));
    names(&[0, 1, 3]);
    let gap = Verified::of(&golden.lz4());
    assert_eq!((gap.exit, gap.names("good_points")), (1, vec!["0".to_owned(), "1".to_owned()]));
    // A run that ended before its commit: its streams are named, not used, and nothing is lost.
    names(&[0, 1, 2]);
    let before_commit = Verified::of(&golden.lz4());
    assert_eq!(before_commit.exit, 0);
    assert_eq!(before_commit.names("good_points"), &ALL[..3]);
    let warnings = before_commit.json["findings"].as_array().unwrap().iter();
    assert_eq!(warnings.filter(|found| found["level"] == "warning").count(), 2);
}

#[test]
fn checksum_files_and_domain_xml() {
    let cases: [(&str, Damage, i32, &[&str]); 5] = [
        ("vda.full.data.chksum", |path| flip(path, 0), 1, &ALL),
        ("vda.full.data.chksum", |path| std::fs::write(path, "1428818491").unwrap(), 1, &[]),
        // What the LZ4 frames hold proves itself, not where it belongs.
        ("vda.full.data.chksum", |path| std::fs::remove_file(path).unwrap(), 2, &ALL),
        ("vmconfig.virtnbdbackup.1.xml", |path| std::fs::remove_file(path).unwrap(), 1, &ALL),
        ("vmconfig.virtnbdbackup.1.xml", |path| truncate(path, 100), 1, &ALL),
    ];
    for (file, damage, exit, good) in cases {
        let golden = Golden::extract();
        damage(&golden.lz4().join(file));
        let found = Verified::of(&golden.lz4());
        assert_eq!(
            (found.exit, found.names("good_points")),
            (exit, good.iter().map(|n| n.to_string()).collect())
        );
        if exit == 2 {
            assert_eq!(found.names("unproven_points"), ALL);
        }
    }
}

#[test]
fn exchanged_streams_are_found_by_what_they_say() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    for suffix in ["", ".chksum"] {
        let name = |disk: &str| dir.join(format!("{disk}.inc.virtnbdbackup.1.data{suffix}"));
        std::fs::rename(name("vda"), dir.join("aside")).unwrap();
        std::fs::rename(name("vdb"), name("vda")).unwrap();
        std::fs::rename(dir.join("aside"), name("vdb")).unwrap();
    }
    let found = Verified::of(&dir);
    assert_eq!((found.exit, found.names("good_points")), (1, vec!["0".to_owned()]));
}

#[test]
fn other_folders_cannot_be_told() {
    let golden = Golden::extract();
    assert_eq!(Verified::of(&golden.root().join("nowhere")).exit, 2);
    let empty = golden.root().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(Verified::of(&empty).exit, 2);
}
