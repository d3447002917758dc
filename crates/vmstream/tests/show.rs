//! What people are shown: help, `info`, `map` and `doctor`; and what the program needs.

use crate::golden::{Golden, build, data_header, meta};
use crate::program::{VMSTREAM, text, vmstream};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use vmstream::stream::{FrameHeader, FrameKind};

fn json(done: &Output) -> Value {
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The number of cores, which differs from machine to machine, becomes N.
fn without_cores(help: &str) -> String {
    let mark = "[default: ";
    let mut out = String::new();
    for line in help.lines() {
        let number = line.rsplit_once(mark).and_then(|(head, tail)| {
            tail.trim_end_matches(']').parse::<usize>().ok().map(|_| format!("{head}{mark}N]"))
        });
        out.push_str(&number.unwrap_or(line.to_owned()));
        out.push('\n');
    }
    out
}

#[test]
fn help_is_as_it_was_read_and_found_good() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/help");
    let top = text(&vmstream(&samples, &["--help"]).stdout).to_owned();
    let (_, commands) = top.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        // A line that goes on has its words further to the right.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(commands.len(), 9);
    for command in commands {
        // The list of commands stands for `help`.
        let (args, name) =
            if command == "help" { (vec!["--help"], "vmstream") } else { (vec![command, "--help"], command) };
        let shown = vmstream(&samples, &args);
        let sample = std::fs::read_to_string(samples.join(format!("{name}.txt"))).unwrap();
        assert_eq!(without_cores(text(&shown.stdout)), sample, "{name}");
        assert!(sample.lines().all(|line| line.chars().count() <= 80), "{name}");
        let told = ["Examples:", "Exit codes:"].iter().all(|part| sample.contains(part));
        assert!(told, "{name} has no examples or exit codes");
    }
}

#[test]
fn neither_libvirt_nor_libnbd_is_needed() {
    let done = Command::new("ldd").arg(VMSTREAM).output().unwrap();
    assert!(done.status.success());
    let libraries = text(&done.stdout);
    assert!(libraries.contains("libc.so"), "{libraries}");
    for library in ["libvirt", "libnbd", "liblz4", "libxml"] {
        assert!(!libraries.contains(library), "{libraries}");
    }
}

#[test]
fn info_of_a_tree_is_a_line_for_each_set() {
    let golden = Golden::extract();
    std::fs::remove_file(golden.lz4().join("vda.inc.virtnbdbackup.3.data")).unwrap();
    let shown = vmstream(golden.root(), &["info", "."]);
    let want = "  DOMAIN  FOLDER            POINTS  DISKS  SIZE      TAKEN
  gold1   lz4/gold1/202611  4       2      789 KiB   2026-11-22 20:02  DAMAGED
  plain   plain/chain       3       2      1.50 MiB  2026-11-22 20:03
  -       plain/copy        1       2      1.00 MiB  2026-11-22 20:03

.: 3 backup sets, 8 restore points, 3.28 MiB
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(1)));
    let list = json(&vmstream(golden.root(), &["info", "--json", "."]));
    assert_eq!(list["sets"][1]["domain"], "plain");
}

#[test]
fn info_of_a_file_says_what_it_is() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.lz4(), &["info", "vda.inc.virtnbdbackup.1.data"]);
    let want = "vda.inc.virtnbdbackup.1.data

  disk        vda, 96.0 MiB, qcow2
  taken       2026-11-22 20:02:30
  checkpoint  virtnbdbackup.1
  parent      virtnbdbackup.0
  stored      301 KiB of 448 KiB, lz4 level 4
  checksum    beside it
  version     2
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
    let raw = vmstream(&golden.plain(), &["info", "vdb.copy.data"]);
    assert_eq!(text(&raw.stdout), "vdb.copy.data: raw image of 1.00 MiB\n");
    let other = vmstream(&golden.lz4(), &["info", "gold1.cpt"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("gold1.cpt is not a stream"));
    assert_eq!(
        json(&vmstream(&golden.lz4(), &["info", "--json", "vdb.full.data"]))["files"][0]["checkpoint"],
        "virtnbdbackup.0"
    );
}

/// A chain of one disk of 60 KiB whose every cell of the picture is one KiB.
fn small_chain(dir: &Path) {
    let kib = |start: u64, len: u64, byte: u8| {
        let header = data_header(start * 1024, len * 1024);
        [&header[..], &vec![byte; (len * 1024) as usize], b"\r\n"].concat()
    };
    let zero = |start: u64, len: u64| {
        FrameHeader { kind: FrameKind::Zero, start: start * 1024, len: len * 1024 }.encode().to_vec()
    };
    let streams = [
        ("vda.full.data", 30, [kib(0, 30, 1), zero(40, 10)].concat()),
        ("vda.inc.virtnbdbackup.1.data", 12, [kib(10, 10, 2), kib(45, 2, 2)].concat()),
        ("vda.inc.virtnbdbackup.2.data", 10, kib(10, 10, 3)),
    ];
    for (number, (name, data, frames)) in streams.into_iter().enumerate() {
        let mut meta = meta(60 << 10, data << 10, None);
        meta.checkpoint_name = format!("virtnbdbackup.{number}");
        if number > 0 {
            meta.incremental = true;
            meta.parent_checkpoint = format!("virtnbdbackup.{}", number - 1);
        }
        std::fs::write(dir.join(name), build(&meta, &frames, None)).unwrap();
    }
    let list = r#"["virtnbdbackup.0", "virtnbdbackup.1", "virtnbdbackup.2"]"#;
    std::fs::write(dir.join("small & <odd>.cpt"), list).unwrap();
}

#[test]
fn the_map_shows_who_supplies_what() {
    let dir = tempfile::tempdir().unwrap();
    small_chain(dir.path());
    let shown = vmstream(dir.path(), &["map", ".", "--ranges"]);
    let want = "\
vda at virtnbdbackup.2: 60.0 KiB, 28.0 KiB of it zero because no stream has it

  virtnbdbackup.0  ######oooooo######......000000......  20.0 KiB of 30.0 KiB
  virtnbdbackup.1  ......oooooo...............##.......  2.00 KiB of 12.0 KiB
  virtnbdbackup.2  ......######........................  10.0 KiB of 10.0 KiB

                 0            10240  virtnbdbackup.0
             10240            20480  virtnbdbackup.2
             20480            30720  virtnbdbackup.0
             30720            46080  zero
             46080            48128  virtnbdbackup.1
             48128            61440  zero

  # taken from here   o newer points have it again   0 zeros   . nothing
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
    let earlier = json(&vmstream(dir.path(), &["map", ".", "--json", "--until", "virtnbdbackup.0"]));
    assert_eq!(earlier["disks"][0]["streams"].as_array().unwrap().len(), 1);
    let want = serde_json::json!([[0, 30720, "virtnbdbackup.0"], [30720, 61440, null]]);
    assert_eq!(earlier["disks"][0]["ranges"], want);
    let missing = vmstream(dir.path(), &["map", ".", "--until", "virtnbdbackup.7"]);
    assert_eq!(missing.status.code(), Some(2));
}

/// Each bar of a drawing: its left edge, width and colour, in the order of the rows.
fn bars(svg: &str) -> Vec<String> {
    let value = |line: &str, key: &str| {
        line.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let mut bars = Vec::new();
    for line in svg.lines().filter(|line| line.starts_with("<path fill=\"#")) {
        for run in value(line, " d").split('M').skip(1) {
            let (left, rest) = run.split_once(' ').unwrap();
            let width = rest.split(['h', 'v']).nth(1).unwrap();
            bars.push(format!("{left} {width} {}", value(line, "fill")));
        }
    }
    bars
}

#[test]
fn the_drawing_is_xml_with_a_bar_for_each_run() {
    let dir = tempfile::tempdir().unwrap();
    small_chain(dir.path());
    assert_eq!(vmstream(dir.path(), &["map", ".", "--svg", "map.svg"]).status.code(), Some(0));
    let svg = std::fs::read_to_string(dir.path().join("map.svg")).unwrap();
    assert!(svg.contains("small &amp; &lt;odd&gt;"), "{svg}");
    let check = "import sys, xml.etree.ElementTree as t; t.parse(sys.argv[1])";
    let done = Command::new("python3").args(["-c", check]).arg(dir.path().join("map.svg")).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    // 600 parts for 60 KiB: ten for each KiB.
    let want = [
        "256 100 #2868b0",
        "456 100 #2868b0",
        "356 100 #b8d0ea",
        "656 100 #d0d0d0",
        "706 20 #2868b0",
        "356 100 #b8d0ea",
        "356 100 #2868b0",
    ];
    assert_eq!(bars(&svg), want);
    for words in ["2026-11-22 20:02", ">0 B<", ">16 KiB<", ">48 KiB<", "viewBox=\"0 0 940 "] {
        assert!(svg.contains(words), "{words}: {svg}");
    }
    // Nothing is overwritten unasked, and standard output is a file like any other.
    std::fs::write(dir.path().join("map.svg"), "precious").unwrap();
    let refused = vmstream(dir.path(), &["map", ".", "--svg", "map.svg"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("give --force"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(dir.path().join("map.svg")).unwrap(), b"precious");
    assert_eq!(vmstream(dir.path(), &["map", ".", "--svg", "map.svg", "--force"]).status.code(), Some(0));
    let piped = vmstream(dir.path(), &["map", ".", "--svg", "-"]);
    assert_eq!(text(&piped.stdout), std::fs::read_to_string(dir.path().join("map.svg")).unwrap());
}

/// One number of the first line that has it.
fn attribute(svg: &str, key: &str) -> f64 {
    svg.split(&format!(" {key}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
}

#[test]
fn many_points_are_still_a_picture() {
    for (count, height) in [(30, 800.0), (2000, 4000.0), (4000, 4000.0)] {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..count {
            let mut meta = meta(64 << 10, 1 << 10, None);
            meta.checkpoint_name = format!("virtnbdbackup.{number}");
            let mut name = "vda.full.data".to_owned();
            if number > 0 {
                meta.incremental = true;
                meta.parent_checkpoint = format!("virtnbdbackup.{}", number - 1);
                name = format!("vda.inc.virtnbdbackup.{number}.data");
            }
            let frame = [&data_header(number % 64 * 1024, 1024)[..], &[1; 1024], b"\r\n"].concat();
            std::fs::write(dir.path().join(name), build(&meta, &frame, None)).unwrap();
        }
        let names: Vec<_> = (0..count).map(|number| format!("virtnbdbackup.{number}")).collect();
        std::fs::write(dir.path().join("vm.cpt"), serde_json::to_string(&names).unwrap()).unwrap();
        let done = vmstream(dir.path(), &["map", ".", "--svg", "-"]);
        let svg = text(&done.stdout);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        assert!(attribute(svg, "height") < height, "{count}: {}", attribute(svg, "height"));
        // Labels do not lie on each other, and the first and the last are there.
        let left: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains(">virtnbdbackup."))
            .map(|line| attribute(line, "y"))
            .collect();
        assert!(left.len() >= 20, "{count}");
        assert!(left.windows(2).all(|pair| pair[1] - pair[0] >= 14.0), "{count}: {left:?}");
        assert!(svg.contains(">virtnbdbackup.0<"), "{count}");
    }
}

/// Memory of millions of ranges is that of one.
#[test]
fn ranges_are_told_as_they_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let count = 300_000;
    let frames: Vec<u8> = (0..count)
        .flat_map(|number| [&data_header(number * 8192, 512)[..], &[7; 512], b"\r\n"].concat())
        .collect();
    std::fs::write(
        dir.path().join("vda.full.data"),
        build(&meta(count * 8192, count * 512, None), &frames, None),
    )
    .unwrap();
    std::fs::write(dir.path().join("vm.cpt"), r#"["virtnbdbackup.0"]"#).unwrap();
    // So many kilobytes for the whole process: with every range in memory it was 800 MB.
    let shell = format!("ulimit -v 400000; exec {} map . --json --no-check", VMSTREAM);
    let done = Command::new("bash").args(["-c", &shell]).current_dir(dir.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let found = json(&done);
    assert_eq!(found["disks"][0]["ranges"].as_array().unwrap().len() as u64, 2 * count);
}

#[test]
fn a_raw_disk_is_supplied_by_its_copy() {
    let golden = Golden::extract();
    let found = json(&vmstream(&golden.plain(), &["map", ".", "--disk", "vdb", "--json"]));
    assert_eq!(found["disks"][0]["ranges"], serde_json::json!([[0, 1 << 20, "virtnbdbackup.0"]]));
}

#[test]
fn doctor_names_what_virtnbdbackup_may_have_left_out() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.lz4(), &["doctor", "."]);
    let want = "\
gold1 in .: 6 streams written by virtnbdbackup may not hold all they should

  virtnbdbackup.1  vda  zeroed or discarded ranges may be missing
  virtnbdbackup.2  vda  zeroed or discarded ranges may be missing
  virtnbdbackup.3  vda  empty: nothing changed, or the changes were lost
  virtnbdbackup.1  vdb  zeroed or discarded ranges may be missing
  virtnbdbackup.2  vdb  empty: nothing changed, or the changes were lost
  virtnbdbackup.3  vdb  empty: nothing changed, or the changes were lost

  sound: virtnbdbackup.0

What to do: take a new full backup of these domains now, with a program that has
neither defect. Both are in how the increments were written: no repair and no
checksum can bring back what was left out. A restore of the points that are not
named sound may have old data in some places; keep them until the new full is
verified. Whether one of them is right can be seen only against an image of that
moment: vmstream compare.
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(1)));
    // A whole tree; a difference is as bad as an increment, a full or a copy is not.
    let all = vmstream(golden.root(), &["doctor", "--json", "."]);
    assert_eq!(all.status.code(), Some(1));
    let all = json(&all);
    let sound = |number: usize| all["sets"][number]["sound_points"].clone();
    assert_eq!((sound(1), sound(2)), (serde_json::json!(["virtnbdbackup.0"]), serde_json::json!(["copy"])));
    assert_eq!(all["sets"][0]["writers"]["virtnbdbackup.2"], serde_json::json!(["virtnbdbackup"]));
}

#[test]
fn our_own_streams_are_nothing_to_fear() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    // By the room in the meta text …
    for disk in ["vda", "vdb"] {
        for number in 1..4 {
            let path = dir.join(format!("{disk}.inc.virtnbdbackup.{number}.data"));
            let stream = vmstream::stream::StreamFile::open(&path).unwrap();
            let (meta, old) = (stream.meta().clone(), stream.meta().to_json());
            let new = meta.to_padded_json(old.len() + 9).unwrap();
            let header = FrameHeader { kind: FrameKind::Meta, start: 0, len: new.len() as u64 }.encode();
            let bytes = std::fs::read(&path).unwrap();
            let time = std::fs::metadata(&path).and_then(|about| about.modified()).unwrap();
            std::fs::write(&path, [&header[..], &new, &bytes[40 + old.len()..]].concat()).unwrap();
            std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }
    let shown = vmstream(&dir, &["doctor", "."]);
    assert_eq!((text(&shown.stdout), shown.status.code()), ("gold1 in .: nothing to fear\n", Some(0)));
    // … or by the checkpoint.
    let golden = Golden::extract();
    let dir = golden.lz4();
    for number in 2..4 {
        let path = dir.join(format!("checkpoints/virtnbdbackup.{number}.xml"));
        let xml = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, xml.replace("Backup checkpoint", "vmbackup 7-8")).unwrap();
    }
    let found = json(&vmstream(&dir, &["doctor", "--json", "."]));
    let suspects = found["sets"][0]["suspects"].as_array().unwrap();
    assert!(suspects.iter().all(|suspect| suspect["point"] == "virtnbdbackup.1"), "{suspects:?}");
    assert_eq!(suspects.len(), 2);
    // Ours build on the doubtful one.
    assert_eq!(found["sets"][0]["sound_points"], serde_json::json!(["virtnbdbackup.0"]));
}

#[test]
fn doctor_puts_times_in_order_that_a_copy_lost() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let streams = || {
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let mut streams: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|end| end == "data")).collect();
        // By disk, the full first: f comes before i.
        streams.sort();
        streams
    };
    let times = || {
        let time = |path: &std::path::PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
        streams().iter().map(time).collect::<Vec<_>>()
    };
    let content = || streams().iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let (before, right) = (content(), times());
    let doctor = |arguments: &[&str]| {
        let found = json(&vmstream(&dir, &[&["doctor", ".", "--json"], arguments].concat()));
        let of = |name: &str| found["sets"][0][name].clone();
        (of("out_of_order").as_array().unwrap().len(), of("repaired_times"), of("not_repaired"))
    };
    use serde_json::Value::Null;
    assert_eq!(doctor(&["--repair-times"]), (0, Null, Null));
    assert_eq!(times(), right, "what is in order stays");
    // As cp -r leaves them: all of one moment, in any order.
    let now = std::time::UNIX_EPOCH + std::time::Duration::new(1_800_000_000, 5);
    streams().iter().for_each(|path| std::fs::File::open(path).unwrap().set_modified(now).unwrap());
    assert_eq!(doctor(&[]), (6, Null, Null));
    let shown = vmstream(&dir, &["doctor", "."]);
    let said = text(&shown.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("the times of 6 streams are not in order"), "{said}");
    assert!(said.contains("Repair: vmstream doctor --repair-times '.'"), "{said}");
    assert_eq!(doctor(&["--repair-times"]), (6, 6.into(), Null));
    assert_eq!(doctor(&[]), (0, Null, Null));
    for of_disk in times().chunks(4) {
        assert!(of_disk.windows(2).all(|pair| pair[1].duration_since(pair[0]).unwrap().as_secs() >= 1));
        assert_eq!(of_disk[3], now, "the newest stays as it is");
    }
    assert!(content() == before, "only times are changed");
}

#[test]
fn a_fragmented_disk_makes_an_empty_increment_likely_wrong() {
    for (extents, word) in [(131_071, "empty"), (131_072, "empty-and-fragmented")] {
        let dir = tempfile::tempdir().unwrap();
        let zeros = (0..extents).flat_map(|number| {
            FrameHeader { kind: FrameKind::Zero, start: number * 1024, len: 512 }.encode()
        });
        let full = meta(1 << 30, 0, None);
        std::fs::write(dir.path().join("vda.full.data"), build(&full, &zeros.collect::<Vec<_>>(), None))
            .unwrap();
        let mut increment = meta(1 << 30, 0, None);
        increment.incremental = true;
        increment.checkpoint_name = "virtnbdbackup.1".to_owned();
        increment.parent_checkpoint = "virtnbdbackup.0".to_owned();
        let path = dir.path().join("vda.inc.virtnbdbackup.1.data");
        std::fs::write(&path, build(&increment, &[], None)).unwrap();
        std::fs::write(dir.path().join("vm.cpt"), r#"["virtnbdbackup.0", "virtnbdbackup.1"]"#).unwrap();
        let found = json(&vmstream(dir.path(), &["doctor", "--json", "."]));
        assert_eq!(found["sets"][0]["suspects"][0]["suspicion"], word);
        increment.data_size = 512;
        let frames = [&data_header(0, 512)[..], &[1; 512], b"\r\n"].concat();
        std::fs::write(&path, build(&increment, &frames, None)).unwrap();
        let found = json(&vmstream(dir.path(), &["doctor", "--json", "."]));
        let word = if extents == 131_072 { "fragmented" } else { "zeroes-lost" };
        assert_eq!(found["sets"][0]["suspects"][0]["suspicion"], word);
    }
}
