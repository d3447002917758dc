//! The levels of `verify`, and what it can be pointed at: a file, a set, a tree.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod golden;

use golden::{Golden, build_plain, data_header};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn vmstream(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmstream")).args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The exit code, and what is said of the only set or file, or of all of them.
fn verify(dir: &Path, args: &[&str]) -> (i32, Value) {
    let done = vmstream(dir, &[&["verify", "--json"], args].concat());
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    let parts = ["sets", "files"].map(|key| json[key].as_array().unwrap());
    let only = match parts {
        [one, none] | [none, one] if one.len() == 1 && none.is_empty() => one[0].clone(),
        _ => json,
    };
    (done.status.code().unwrap(), only)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

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

#[test]
fn deep_digests_are_those_of_the_images() {
    let golden = Golden::extract();
    let (exit, json) = verify(&golden.lz4(), &["--deep", "."]);
    assert_eq!(exit, 0);
    let digests = json["digests"].as_array().unwrap();
    assert_eq!(digests.len(), 8);
    for found in digests {
        let (point, disk) = (found["point"].as_str().unwrap(), found["disk"].as_str().unwrap());
        // As anybody can do it with a shell.
        let shell = format!(
            "binary() {{ cut -c1-64 | tr a-f A-F | basenc -d --base16; }}
             of_64k() {{ split -b 64K --filter=sha256sum | binary | sha256sum; }}
             export -f binary of_64k
             {} extract . --disk {disk} --until {point} -o - | SHELL=/bin/bash split -b 1M --filter=of_64k |
             binary | sha256sum",
            env!("CARGO_BIN_EXE_vmstream")
        );
        let want = Command::new("bash").args(["-c", &shell]).current_dir(golden.lz4()).output().unwrap();
        assert_eq!(found["sha256_of_mib_of_64k_sha256"], text(&want.stdout)[..64], "{disk} at {point}");
    }
    let (_, plain) = verify(&golden.plain(), &["--deep", "."]);
    // A raw disk is the same at every point; the difference has its own content.
    let digest = |disk: &str, point: &str| {
        let all = plain["digests"].as_array().unwrap().iter();
        let mut found = all.filter(|found| found["disk"] == disk && found["point"] == point);
        found.next().unwrap()["sha256_of_mib_of_64k_sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("vdb", "virtnbdbackup.0"), digest("vdb", "diff.1795377788"));
    assert_ne!(digest("vda", "virtnbdbackup.1"), digest("vda", "diff.1795377788"));
    let (_, copy) = verify(&golden.copy(), &["--deep", "."]);
    assert_eq!(copy["digests"][0]["sha256_of_mib_of_64k_sha256"], digest("vda", "diff.1795377788"));
}

#[test]
fn deep_text_says_what_it_proves() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.copy(), &["verify", "--deep", "."]);
    let digest = |disk: &str| {
        let (_, json) = verify(&golden.copy(), &["--deep", "."]);
        let all = json["digests"].as_array().unwrap().clone();
        let found = all.into_iter().find(|found| found["disk"] == disk).unwrap();
        found["sha256_of_mib_of_64k_sha256"].as_str().unwrap().to_owned()
    };
    let want = format!(
        "unproven: vdb.copy.data: a raw image has no checksum: nothing proves it

  copy  vda: good  vdb: unproven

  copy  vda  40.0 MiB
    {}
  copy  vdb  1.00 MiB
    {}

Each of these was put together from its streams, to the last byte. The digest
is the SHA-256 over one for each MiB of the disk, that over the SHA-256 of each
of its 64 KiB: equal digests are equal disks. What the guest had at that moment
is written nowhere, so that it is the same is not proven; `vmstream compare`
holds a disk against an image.

.: UNPROVEN, 1 restore point: 1 unproven (1 stream, 512 KiB of content)
",
        digest("vda"),
        digest("vdb")
    );
    assert_eq!((text(&shown.stdout), shown.status.code()), (&want[..], Some(2)));
}

/// What the default look promises is that the stored bytes are as they were written, where anything tells; where nothing
/// does, and at a deep look, that they decode.
#[test]
fn content_is_decoded_where_its_stored_bytes_are_not_proven() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let name = "vda.inc.virtnbdbackup.1.data";
    let (path, sum_path) = (dir.join(name), dir.join(format!("{name}.chksum")));
    let stream = vmstream::stream::StreamFile::open(&path).unwrap();
    let data = |frame: &vmstream::stream::Frame| frame.header.kind == vmstream::stream::FrameKind::Data;
    let frame = stream.frames().map(Result::unwrap).find(data).unwrap();
    let at = frame.stored_at as usize + 100;
    let named = |args: &[&str]| {
        let (exit, json) = verify(&dir, args);
        let findings = json["findings"].as_array().unwrap().clone();
        let damage: Vec<_> = findings.iter().filter(|finding| finding["level"] == "damage").collect();
        let frames: Vec<_> = damage.iter().map(|finding| finding["frame"].clone()).collect();
        (exit, frames)
    };
    // Changed on its way: the bytes are not those that were summed. The checksum tells that, the frame tells where.
    flip(&path, at);
    let (exit, frames) = named(&["."]);
    assert_eq!((exit, frames.contains(&Value::from(frame.index))), (1, true), "{frames:?}");
    // Written like that, by a faulty host.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&sum_path, vmstream::stream::checksum::adler32(&bytes).to_string()).unwrap();
    assert_eq!(named(&["."]), (0, vec![]));
    assert_eq!(named(&["--deep", "."]), (1, vec![Value::from(frame.index)]));
    for unusable in [Some("none"), None] {
        match unusable {
            Some(text) => std::fs::write(&sum_path, text).unwrap(),
            None => std::fs::remove_file(&sum_path).unwrap(),
        }
        let (exit, frames) = named(&["."]);
        assert_eq!((exit, frames.contains(&Value::from(frame.index))), (1, true), "{frames:?}");
    }
}

#[test]
fn deep_digests_stop_where_a_disk_is_lost() {
    let golden = Golden::extract();
    let path = golden.lz4().join("vda.inc.virtnbdbackup.2.data");
    let middle = std::fs::read(&path).unwrap().len() / 2;
    flip(&path, middle);
    let (exit, json) = verify(&golden.lz4(), &["--deep", "."]);
    assert_eq!(exit, 1);
    let digests = json["digests"].as_array().unwrap().iter();
    let of = |disk: &str| digests.clone().filter(|found| found["disk"] == disk).count();
    assert_eq!((of("vda"), of("vdb")), (2, 4));
}

#[test]
fn one_file_is_judged_alone() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let good = vmstream(&dir, &["verify", "vda.inc.virtnbdbackup.1.data"]);
    let want = "vda.inc.virtnbdbackup.1.data: good (448 KiB of content)\n";
    assert_eq!((text(&good.stdout), good.status.code()), (want, Some(0)));
    // Also under another name, without its checksum.
    std::fs::rename(dir.join("vda.inc.virtnbdbackup.1.data"), dir.join("stream")).unwrap();
    let (exit, json) = verify(&dir, &["stream"]);
    assert_eq!((exit, &json["stream"]["proof"]), (2, &Value::Null), "its LZ4 does not say where it belongs");
    flip(&dir.join("stream"), 5000);
    for (args, exit) in [(&["stream"][..], 1), (&["--quick", "stream"], 0)] {
        assert_eq!(verify(&dir, args).0, exit, "{args:?}");
    }
    assert_eq!(verify(&golden.plain(), &["vdb.copy.data"]).0, 2, "a raw image is proven by nothing");
    let other = vmstream(&dir, &["verify", "gold1.cpt"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("gold1.cpt is not a stream"), "{}", text(&other.stderr));
    // What is called like a stream is one that is damaged.
    std::fs::write(dir.join("vda.inc.virtnbdbackup.1.data"), "none").unwrap();
    assert_eq!(verify(&dir, &["vda.inc.virtnbdbackup.1.data"]).0, 1);
    let missing = vmstream(&dir, &["verify", "nothing"]);
    assert_eq!(missing.status.code(), Some(2));
}

/// Two VMs, one with an archived chain.
fn tree() -> Golden {
    let golden = Golden::extract();
    let root = golden.root().join("tree");
    std::fs::create_dir_all(root.join("plain/202611/.archives")).unwrap();
    std::fs::rename(golden.root().join("lz4/gold1"), root.join("gold1")).unwrap();
    std::fs::rename(golden.plain(), root.join("plain/202611/.archives/chain-2026-11-22")).unwrap();
    std::fs::rename(golden.copy(), root.join("plain/202611/copy")).unwrap();
    golden
}

#[test]
fn a_tree_is_verified_with_its_archives() {
    let golden = tree();
    let root = golden.root().join("tree");
    let shown = vmstream(&root, &["verify", "."]);
    let want = "\
gold1 in ./gold1/202611: good, all 4 restore points can be restored (8 streams,
  43.8 MiB of content)
plain in ./plain/202611/.archives/chain-2026-11-22: UNPROVEN, 3 restore points:
  3 unproven (3 streams, 512 KiB of content)
  unproven: vdb.copy.data: a raw image has no checksum: nothing proves it
./plain/202611/copy: UNPROVEN, 1 restore point: 1 unproven (1 stream, 512 KiB of
  content)
  unproven: vdb.copy.data: a raw image has no checksum: nothing proves it

.: 3 backup sets, 1 good, 2 of which nobody can tell; 8 restore points: 4
  proven, 4 unproven
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(2)));
    flip(&root.join("plain/202611/.archives/chain-2026-11-22/vda.full.data"), 5000);
    std::fs::remove_file(root.join("plain/202611/copy/vda.copy.data.chksum")).unwrap();
    let (exit, json) = verify(&root, &["."]);
    assert_eq!((exit, &json["verdict"]), (1, &"damaged".into()));
    let verdicts: Vec<_> =
        json["sets"].as_array().unwrap().iter().map(|set| set["verdict"].clone()).collect();
    assert_eq!(verdicts, ["good", "damaged", "cannot-tell"]);
    let shown = vmstream(&root, &["verify", "."]);
    assert!(
        text(&shown.stdout).ends_with(
            "\n.: 3 backup sets, 1 good, 1 DAMAGED, 1 of which nobody can tell; 8 restore\n  \
             points: 4 proven, 1 unproven, 3 damaged\n"
        ),
        "{}",
        text(&shown.stdout)
    );
    assert!(text(&shown.stdout).contains("damage: vda.full.data: the file's checksum is"));
    let one = vmstream(&root, &["verify", "gold1"]);
    assert_eq!(one.status.code(), Some(0), "a VM's folder");
}

/// A set may be good and still be one that somebody must know something about.
#[test]
fn what_is_said_of_a_good_set_in_a_tree_stands_below_its_line() {
    let golden = tree();
    let root = golden.root().join("tree");
    let dir = root.join("gold1/202611");
    let below = |head: &str| {
        let shown = vmstream(&root, &["verify", "."]);
        let said = text(&shown.stdout).to_owned();
        let mut lines = said.lines().skip_while(|line| !line.starts_with("gold1 in ./gold1/202611: "));
        assert!(lines.next().unwrap().contains(head), "{said}");
        lines.take_while(|line| line.starts_with("  ")).collect::<Vec<_>>().join("\n")
    };
    assert!(!below("good, all 4 restore points").contains("warning"));
    // virtnbdrestore goes by times: the full over the increments.
    let full = std::fs::File::options().append(true).open(dir.join("vda.full.data")).unwrap();
    let before = full.metadata().unwrap().modified().unwrap();
    full.set_modified(before + Duration::from_secs(86_400)).unwrap();
    let said = below("good, all 4 restore points");
    assert!(said.contains("\n  warning: vda.inc.virtnbdbackup.1.data:"), "{said}");
    assert!(said.contains("apply them in the wrong order"), "{said}");
    full.set_modified(before).unwrap();
    // An older list, as a copy that ran beside a backup brings it: the newest point is gone.
    std::fs::write(dir.join("gold1.cpt"), r#"["virtnbdbackup.0", "virtnbdbackup.1", "virtnbdbackup.2"]"#)
        .unwrap();
    let said = below("good, all 3 restore points");
    assert!(said.contains("\n  warning: vda.inc.virtnbdbackup.3.data:"), "{said}");
}

#[test]
fn one_big_stream_is_the_same_on_any_number_of_threads() {
    let golden = Golden::extract();
    let dir = golden.root().join("big");
    std::fs::create_dir(&dir).unwrap();
    let (frame, count) = (3 << 20, 30u64);
    let mut frames = Vec::new();
    for number in 0..count {
        frames.extend_from_slice(&data_header(number * frame, frame));
        frames.extend((0..frame).map(|at| (at * 31 / 7 + number) as u8));
        frames.extend_from_slice(b"\r\n");
    }
    let path = dir.join("vda.copy.data");
    let mut bytes = build_plain(count * frame, count * frame, &frames);
    std::fs::write(&path, &bytes).unwrap();
    let sum = vmstream::stream::checksum::adler32(&bytes);
    std::fs::write(dir.join("vda.copy.data.chksum"), sum.to_string()).unwrap();
    let reports = || ["1", "2", "5"].map(|workers| verify(&dir, &["--workers", workers, "vda.copy.data"]));
    for (exit, json) in reports() {
        assert_eq!((exit, &json["stream"]["proof"]), (0, &"checksum".into()), "{json}");
    }
    // One byte of content, and a frame's line end further on, behind which nothing can be walked.
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    let header = data_header(20 * frame, frame);
    let place = bytes.windows(40).position(|window| window == header).unwrap();
    bytes[place - 1] = b'x';
    std::fs::write(&path, &bytes).unwrap();
    let [one, two, five] = reports();
    assert_eq!((one.0, one.1["findings"].as_array().unwrap().len()), (1, 2), "{}", one.1);
    assert_eq!(one, two);
    assert_eq!(one, five);
}

/// A stream's name tells which readers can read it. The wrong name, or both names, must be seen.
#[test]
fn names_that_do_not_fit_the_method_are_damage() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let (data, zstd) = (dir.join("vda.inc.virtnbdbackup.1.data"), dir.join("vda.inc.virtnbdbackup.1.zstd"));
    let problems = || verify(&dir, &["--quick", "."]).1["findings"].to_string();
    std::fs::copy(&data, &zstd).unwrap();
    assert_eq!(verify(&dir, &["--quick", "."]).0, 1);
    assert!(problems().contains("virtnbdbackup.1.zstd is not used"), "{}", problems());
    std::fs::remove_file(&data).unwrap();
    assert_eq!(verify(&dir, &["--quick", "."]).0, 1);
    let mismatch = r#"the stream says compressionMethod \"lz4\", its place needs \"zstd\""#;
    assert!(problems().contains(mismatch), "{}", problems());
}

#[test]
fn several_paths_are_verified_in_one_go() {
    let golden = Golden::extract();
    let shown = vmstream(golden.root(), &["verify", "lz4/gold1/202611", "plain/copy/vda.copy.data"]);
    let want = "\
gold1 in lz4/gold1/202611: good, all 4 restore points can be restored (8
  streams, 43.8 MiB of content)
plain/copy/vda.copy.data: good (512 KiB of content)

All: 1 backup set, 1 file, 2 good; 4 restore points: 4 proven
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
    let (exit, all) = verify(golden.root(), &["lz4", "plain/chain", "plain/copy"]);
    let dirs: Vec<_> = all["sets"].as_array().unwrap().iter().map(|set| set["dir"].clone()).collect();
    assert_eq!((exit, dirs), (2, vec!["lz4/gold1/202611".into(), "plain/chain".into(), "plain/copy".into()]));
    // One that is not there does not keep the others from being proven, and is not forgotten.
    let (exit, all) = verify(golden.root(), &["nowhere", "lz4"]);
    assert_eq!((exit, &all["verdict"]), (2, &"good".into()), "{all}");
    let done = vmstream(golden.root(), &["verify", "--json", "nowhere", "lz4"]);
    let all: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(all["verdict"], "cannot-tell");
    assert!(all["unreadable"][0].as_str().unwrap().contains("nowhere: No such file"), "{all}");
    let none = vmstream(golden.root(), &["verify", "nowhere", "neither"]);
    assert_eq!((none.status.code(), text(&none.stdout)), (Some(2), ""));
}

/// `good_points` is what is proven and what nothing speaks against, as the schema says.
#[test]
fn good_points_are_those_that_are_proven_or_unproven() {
    let golden = Golden::extract();
    let plain = golden.plain();
    let ids = |json: &Value, key: &str| -> Vec<String> {
        json[key].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    std::fs::remove_file(plain.join("vdb.copy.data")).unwrap();
    let all = ids(&verify(&plain, &["."]).1, "good_points");
    assert_eq!(all.len(), 3, "{all:?}");
    let worths = |exit: i32, proven: &[&str], unproven: &[&str]| {
        let (found, json) = verify(&plain, &["."]);
        assert_eq!(
            (found, ids(&json, "proven_points")),
            (exit, proven.iter().map(ToString::to_string).collect())
        );
        assert_eq!(ids(&json, "unproven_points"), unproven);
        let good = ids(&json, "good_points");
        assert_eq!(good, [proven, unproven].concat(), "{json}");
        let others: Vec<_> = all.iter().filter(|id| !good.contains(id)).cloned().collect();
        (others, ids(&json, "lost_points"))
    };
    // Without its checksum nothing proves the increment; the difference needs the full alone, and has its own.
    std::fs::remove_file(plain.join("vda.inc.virtnbdbackup.1.data.chksum")).unwrap();
    let of = |number: usize| all[number].as_str();
    let unproven: Vec<&str> = all[1..].iter().map(String::as_str).collect();
    assert_eq!(worths(2, &[of(0)], &unproven), (vec![], vec![]));
    // What is lost is not good.
    let difference = plain.join("vda.diff.1795377788.data");
    let kept = std::fs::read(&difference).unwrap();
    std::fs::remove_file(&difference).unwrap();
    std::fs::write(&difference, &kept[1..]).unwrap();
    assert_eq!(worths(1, &[of(0)], &unproven[..1]), (all[2..].to_vec(), all[2..].to_vec()));
}

#[test]
fn increments_that_doctor_doubts_are_said() {
    let golden = Golden::extract();
    let stderr = |args: &[&str]| {
        let done = vmstream(golden.root(), &[&["verify", "--quick"], args].concat());
        text(&done.stderr).replace("\n ", "")
    };
    let end = "increments by virtnbdbackup, which may lack changes: vmstream doctor says more\n";
    assert_eq!(stderr(&["plain/chain"]), format!("warning: the set has {end}"));
    assert_eq!(stderr(&["."]), format!("warning: 2 sets have {end}"));
    assert_eq!(stderr(&["plain/copy"]), "");
    let (_, chain) = verify(golden.root(), &["plain/chain"]);
    let (_, copy) = verify(golden.root(), &["plain/copy"]);
    assert_eq!((&chain["may_lack_changes"], &copy["may_lack_changes"]), (&true.into(), &false.into()));
}

#[test]
fn lines_fit_80_columns() {
    let golden = Golden::extract();
    for name in ["vda.inc.virtnbdbackup.1.data", "vdb.full.data"] {
        let path = golden.lz4().join(name);
        flip(&path, 5000);
    }
    std::fs::remove_file(golden.plain().join("vda.full.data")).unwrap();
    for args in [
        &["verify", "."][..],
        &["verify", "lz4"],
        &["verify", "lz4", "--deep"],
        &["verify", "plain", "--quick"],
        &["verify", "lz4/gold1/202611/vda.inc.virtnbdbackup.1.data"],
        &["doctor", "."],
        &["info", "lz4"],
        &["info", "."],
    ] {
        let done = vmstream(golden.root(), args);
        for line in text(&done.stdout).lines().chain(text(&done.stderr).lines()) {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
    }
}
