//! A quick look: what it finds, and what it does not read.

use super::set_up::{flip, verify};
use crate::golden;
use crate::golden::{Golden, data_header};
use crate::program::{text, vmstream};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is done to a file.
type Damage = fn(&Path);

#[test]
fn a_quick_look_finds_what_is_missing_cut_or_grown() {
    let cut = |path: &Path, less: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - less).unwrap();
    };
    for less in [1, 40, 41, 500, 20_000] {
        for plain in [false, true] {
            let golden = Golden::extract();
            let dir = if plain { golden.plain() } else { golden.lz4() };
            cut(&dir.join("vda.inc.virtnbdbackup.1.data"), less);
            let (exit, json) = verify(&dir, &["--quick", "."]);
            assert_eq!(exit, 1, "{less} bytes less");
            assert_eq!(json["good_points"], serde_json::json!(["virtnbdbackup.0"]), "{less} bytes less");
        }
    }
    let lost_inside: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes.drain(middle..middle + 101);
        std::fs::write(path, bytes).unwrap();
    };
    let golden = Golden::extract();
    lost_inside(&golden.plain().join("vda.inc.virtnbdbackup.1.data"));
    assert_eq!(verify(&golden.plain(), &["--quick", "."]).0, 1, "bytes lost inside, uncompressed");
    let cases: [(&str, &str, Damage); 7] = [
        ("bytes lost inside", "vda.inc.virtnbdbackup.1.data", lost_inside),
        ("delete", "vda.inc.virtnbdbackup.1.data", |path| std::fs::remove_file(path).unwrap()),
        ("grow", "vda.inc.virtnbdbackup.1.data", |path| {
            let bytes = [std::fs::read(path).unwrap(), b"more".to_vec()].concat();
            std::fs::write(path, bytes).unwrap();
        }),
        ("flip meta", "vda.inc.virtnbdbackup.1.data", |path| flip(path, 60)),
        ("other content", "vda.inc.virtnbdbackup.1.data", |path| std::fs::write(path, [0; 9000]).unwrap()),
        ("list", "gold1.cpt", |path| std::fs::remove_file(path).unwrap()),
        ("checksum", "vda.inc.virtnbdbackup.1.data.chksum", |path| std::fs::write(path, "none").unwrap()),
    ];
    for (name, file, damage) in cases {
        let golden = Golden::extract();
        damage(&golden.lz4().join(file));
        assert_eq!(verify(&golden.lz4(), &["--quick", "."]).0, 1, "{name}");
    }
}

#[test]
fn a_quick_look_accepts_every_good_vector() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../format-spec/vectors/good");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "data") {
            let done = vmstream::stream::StreamFile::open(&path).and_then(|stream| stream.check_ends());
            assert!(done.is_ok(), "{}: {done:?}", path.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn a_quick_look_reads_no_content_and_says_so() {
    let golden = Golden::extract();
    let path = golden.lz4().join("vda.inc.virtnbdbackup.1.data");
    let middle = std::fs::read(&path).unwrap().len() / 2;
    flip(&path, middle);
    let shown = vmstream(&golden.lz4(), &["verify", "--quick", "."]);
    let want = "  virtnbdbackup.0  vda: seems whole  vdb: seems whole
  virtnbdbackup.1  vda: seems whole  vdb: seems whole
  virtnbdbackup.2  vda: seems whole  vdb: seems whole
  virtnbdbackup.3  vda: seems whole  vdb: seems whole

gold1 in .: nothing wrong at a quick look, 4 restore points seem whole (8
  streams, 43.8 MiB of content, not read)
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
    assert_eq!(verify(&golden.lz4(), &["."]).0, 1, "the default finds it");
    let plain = golden.plain();
    assert_eq!(verify(&plain, &["--quick", "."]).0, 0, "also where nothing is compressed");
    assert_eq!(verify(&golden.copy(), &["--quick", "."]).0, 0);
}

#[test]
fn a_quick_look_at_a_thousand_files_takes_less_than_a_second() {
    let golden = Golden::extract();
    let dir = golden.root().join("long");
    std::fs::create_dir(&dir).unwrap();
    let mut names = Vec::new();
    for number in 0..1000u32 {
        let mut meta = golden::meta(1 << 30, 4096, None);
        meta.checkpoint_name = format!("virtnbdbackup.{number}");
        meta.incremental = number > 0;
        if number > 0 {
            meta.parent_checkpoint = format!("virtnbdbackup.{}", number - 1);
        }
        let frames = [&data_header(4096 * u64::from(number), 4096)[..], &[7; 4096], b"\r\n"].concat();
        let file = if number == 0 {
            "vda.full.data".to_owned()
        } else {
            format!("vda.inc.{}.data", meta.checkpoint_name)
        };
        std::fs::write(dir.join(file), golden::build(&meta, &frames, None)).unwrap();
        let config = format!("vmconfig.{}.xml", meta.checkpoint_name);
        std::fs::write(dir.join(config), "<domain>\n</domain>\n").unwrap();
        names.push(meta.checkpoint_name);
    }
    std::fs::write(dir.join("vm.cpt"), serde_json::to_string(&names).unwrap()).unwrap();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let (exit, json) = verify(&dir, &["--quick", "."]);
        best = best.min(start.elapsed());
        assert_eq!((exit, json["good_points"].as_array().unwrap().len()), (0, 1000));
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
}
