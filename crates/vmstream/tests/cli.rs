//! What people type and see: `info` and `extract`.

use crate::golden::{Golden, damage};
use crate::program::{VMSTREAM, text, vmstream};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn info_fits_on_one_screen() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.plain(), &["info", "."]);
    let want = "\
plain in .: 3 restore points, 2 disks, 1.50 MiB

  POINT            TAKEN                VDA                   VDB
  virtnbdbackup.0  2026-11-22 20:03:05  385 KiB of 384 KiB    1.00 MiB raw
  virtnbdbackup.1  2026-11-22 20:03:07  64.4 KiB of 64.0 KiB  -
  diff.1795377788  2026-11-22 20:03:08  64.4 KiB of 64.0 KiB  -

  vda  40.0 MiB  qcow2  uncompressed
  vdb  1.00 MiB  raw    plain copy
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
}

#[test]
fn info_as_json_names_points_and_disks() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.lz4(), &["info", "--json", "."]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let json = &json["sets"][0];
    assert_eq!(json["domain"], "gold1");
    assert_eq!(json["points"].as_array().unwrap().len(), 4);
    assert_eq!(json["points"][1]["disks"]["vda"]["data_bytes"], 458_752);
    assert_eq!(json["points"][1]["parent"], "virtnbdbackup.0");
}

#[test]
fn verify_says_what_is_good() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.lz4(), &["verify", "."]);
    let want = "  virtnbdbackup.0  vda: good  vdb: good
  virtnbdbackup.1  vda: good  vdb: good
  virtnbdbackup.2  vda: good  vdb: good
  virtnbdbackup.3  vda: good  vdb: good

gold1 in .: good, all 4 restore points can be restored (8 streams, 43.8 MiB of
  content)
";
    assert_eq!((text(&shown.stdout), shown.status.code()), (want, Some(0)));
}

#[test]
fn extract_takes_the_newest_point_and_says_so() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["extract", ".", "--disk", "vda", "-o", "../vda.raw"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(
        text(&done.stdout).starts_with("Disk vda at diff.1795377788: 40.0 MiB"),
        "{}",
        text(&done.stdout)
    );
    let again = vmstream(&golden.plain(), &["extract", ".", "--disk", "vda", "-o", "../vda.raw"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"));
    let args = ["extract", ".", "--disk", "vda", "-o", "../vda.raw", "--force", "--until", "virtnbdbackup.0"];
    assert_eq!(vmstream(&golden.plain(), &args).status.code(), Some(0));
}

#[test]
fn a_raw_disk_of_an_old_full_is_said_to_be_old() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["extract", ".", "--disk", "vdb", "-o", "../vdb.raw"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(text(&done.stderr).contains("its content is that of virtnbdbackup.0"));
}

#[test]
fn wishes_that_cannot_be_met_are_explained() {
    let golden = Golden::extract();
    let cases: [(&[&str], &str); 6] = [
        (&["--disk", "vda", "-o", "-", "--format", "qcow2"], "takes the raw format only"),
        (&["--disk", "vdx", "-o", "x"], "it has vda, vdb"),
        (&["--disk", "vda", "-o", "x", "--until", "virtnbdbackup.9"], "has no restore point virtnbdbackup.9"),
        (&["--disk", "vda", "-o", "x", "--until", "yesterday"], "names no restore point"),
        (&["--disk", "../vda", "-o", "x"], "is no disk target"),
        (&["--disk", "vda", "-o", "no/such/folder/x"], "No such file or directory"),
    ];
    for (args, want) in cases {
        let args = [&["extract", "."], args].concat();
        let done = vmstream(&golden.lz4(), &args);
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        assert!(text(&done.stderr).contains(want), "{args:?}: {}", text(&done.stderr));
    }
}

#[test]
fn a_damaged_chain_gives_no_image() {
    let golden = Golden::damaged();
    let done = vmstream(&golden.lz4(), &["extract", ".", "--disk", "vda", "-o", "../out.raw"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("vda.inc.virtnbdbackup.2.data"));
    for left in ["../out.raw", "../out.raw.partial"] {
        assert!(!golden.lz4().join(left).exists());
    }
    let args = ["extract", ".", "--disk", "vda", "-o", "../out.raw", "--until", "virtnbdbackup.1"];
    assert_eq!(vmstream(&golden.lz4(), &args).status.code(), Some(0));
}

/// What a person types who has not read the help.
#[test]
fn points_disks_and_formats_are_found_from_little() {
    let golden = Golden::extract();
    let lz4 = golden.lz4();
    let untils = [
        ("latest", "virtnbdbackup.3"),
        ("2", "virtnbdbackup.2"),
        ("virtnbdbackup.1", "virtnbdbackup.1"),
        ("2026-11-22", "virtnbdbackup.3"),
        ("2026-11-22 20:02", "virtnbdbackup.3"),
        ("2026-11-22T20:02:30", "virtnbdbackup.1"),
    ];
    for (until, want) in untils {
        let shown = vmstream(&lz4, &["map", ".", "--disk", "vda", "--until", until]);
        assert!(
            text(&shown.stdout).starts_with(&format!("vda at {want}: ")),
            "{until}: {}",
            text(&shown.stdout)
        );
    }
    let early = vmstream(&lz4, &["map", ".", "--until", "2026-11-21"]);
    assert_eq!(early.status.code(), Some(2));
    let want = "No restore point was taken until 2026-11-21 23:59:59: the oldest is virtnbdbackup.0";
    assert!(text(&early.stderr).contains(want), "{}", text(&early.stderr));
    // Two disks: which one?
    let which = vmstream(&lz4, &["extract", ".", "-o", "../x.raw"]);
    assert_eq!(which.status.code(), Some(2));
    assert!(text(&which.stderr).contains("vda, vdb: name one with --disk, or take all with --all DIR"));
    // The only one there is.
    std::fs::create_dir(golden.root().join("one")).unwrap();
    for name in ["vda.full.data", "vda.full.data.chksum"] {
        std::fs::copy(lz4.join(name), golden.root().join("one").join(name)).unwrap();
    }
    std::fs::write(golden.root().join("one/gold1.cpt"), r#"["virtnbdbackup.0"]"#).unwrap();
    let done = vmstream(golden.root(), &["extract", "one", "-o", "x.qcow2"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("in x.qcow2, qcow2"), "{}", text(&done.stdout));
    assert_eq!(&std::fs::read(golden.root().join("x.qcow2")).unwrap()[..4], b"QFI\xfb");
    let same = vmstream(golden.root(), &["compare", "one", "x.qcow2"]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    let other = vmstream(golden.root(), &["extract", "one", "-o", "x.vmdk"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("raw and qcow2 images, not vmdk"), "{}", text(&other.stderr));
}

#[test]
fn all_disks_of_a_point_go_into_one_folder() {
    let golden = Golden::extract();
    let args = ["extract", ".", "--all", "../out", "--until", "1", "--json"];
    let done = vmstream(&golden.lz4(), &args);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["schema"], "vmstream/extract/1");
    for (number, disk) in ["vda", "vdb"].into_iter().enumerate() {
        let file = format!("../out/{disk}.raw");
        assert_eq!(json["disks"][number]["file"], file.as_str());
        let same = vmstream(&golden.lz4(), &["compare", ".", &file, "--disk", disk, "--until", "1"]);
        assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
    }
    // What is there is seen before anything is written.
    std::fs::remove_file(golden.lz4().join("../out/vda.raw")).unwrap();
    let again = vmstream(&golden.lz4(), &args);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("vdb.raw exists already"), "{}", text(&again.stderr));
    assert!(!golden.lz4().join("../out/vda.raw").exists());
    let forced = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
    // One that is damaged does not keep the other from being restored.
    damage(&golden.lz4().join("vda.full.data"));
    let done = vmstream(&golden.lz4(), &["extract", ".", "--all", "../half"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert!(golden.lz4().join("../half/vdb.raw").exists() && !golden.lz4().join("../half/vda.raw").exists());
}

#[test]
fn errors_are_json_where_json_is_wanted() {
    let golden = Golden::extract();
    let cases: [&[&str]; 9] = [
        &["map", "/nowhere", "--json"],
        &["info", "/nowhere", "--json"],
        &["verify", "/nowhere", "--json"],
        &["doctor", "/nowhere", "--json"],
        &["doctor", "vda.full.data", "--json"],
        &["extract", ".", "--json", "-o", "x"],
        &["compare", ".", "nothing", "--disk", "vda", "--json"],
        &["convert", ".", "--to", ".", "--json"],
        &["map", ".", "--json", "--no-such-option"],
    ];
    for args in cases {
        let done = vmstream(&golden.lz4(), args);
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&json["schema"], &json["exit"]), (&"vmstream/error/1".into(), &2.into()), "{args:?}");
        let said = text(&done.stderr);
        assert!(said.contains(json["error"].as_str().unwrap()), "{args:?}: {said}");
    }
}

#[test]
fn words_that_people_try_get_a_hint() {
    let golden = Golden::extract();
    for (word, command) in
        [("restore", "extract"), ("check", "verify"), ("list", "info"), ("diff", "compare")]
    {
        let done = vmstream(golden.root(), &[word, "."]);
        assert_eq!(done.status.code(), Some(2));
        let want = format!("vmstream {command} does that");
        assert!(text(&done.stderr).contains(&want), "{word}: {}", text(&done.stderr));
    }
    assert!(!text(&vmstream(golden.root(), &["frobnicate"]).stderr).contains("does that"));
}

/// What a terminal gets: `script` makes one.
fn on_a_terminal(dir: &Path, command: &str) -> String {
    let done = Command::new("script").args(["-qec", command, "/dev/null"]).current_dir(dir).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn messages_fit_a_terminal_and_are_a_line_each_for_programs() {
    let golden = Golden::extract();
    let lz4 = golden.lz4();
    let args = ["extract", lz4.to_str().unwrap(), "--disk", "vda", "--force", "-o", "out.raw"];
    let command = format!("{} {}", VMSTREAM, args.join(" "));
    let shown = on_a_terminal(golden.root(), &command);
    let warning: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("warning: ")).take(2).collect();
    assert!(warning.len() == 2 && warning[1].starts_with("  "), "{shown:?}");
    assert!(warning.iter().all(|line| line.chars().count() <= 80), "{shown:?}");
    let piped = vmstream(golden.root(), &args);
    let warning = text(&piped.stderr).lines().find(|line| line.starts_with("warning: ")).unwrap();
    assert!(warning.ends_with("vmstream doctor says more"), "{warning}");
    // Whichever part of the program says it.
    let deep = golden.root().join(format!("{}/chain", "a-long-name-".repeat(8)));
    fs::create_dir_all(deep.join(".archives")).unwrap();
    fs::rename(golden.copy(), deep.join(".archives/chain-2026-11-22")).unwrap();
    let args = ["verify", "--quick", "--no-archives", deep.to_str().unwrap()];
    let piped = vmstream(golden.root(), &args);
    let note = format!("note: not looked at, by --no-archives: 1 archived chain below {}", deep.display());
    assert!(text(&piped.stderr).lines().any(|line| line == note), "{}", text(&piped.stderr));
    let command = format!("{} {}", VMSTREAM, args.join(" "));
    let shown = on_a_terminal(golden.root(), &command);
    assert!(!shown.contains(&note) && shown.contains("note: not looked at, by"), "{shown}");
}

#[test]
fn damage_is_red_on_a_terminal_and_nowhere_else() {
    let golden = Golden::extract();
    std::fs::remove_file(golden.lz4().join("vda.inc.virtnbdbackup.3.data")).unwrap();
    let command = format!("{} info {}", VMSTREAM, golden.root().display());
    let red = "\u{1b}[1;31mDAMAGED\u{1b}[0m";
    assert!(on_a_terminal(golden.root(), &command).contains(red));
    let plain = on_a_terminal(golden.root(), &format!("env NO_COLOR=1 {command}"));
    assert!(plain.contains("DAMAGED") && !plain.contains('\u{1b}'), "{plain:?}");
    let piped = vmstream(golden.root(), &["info", "."]);
    assert!(text(&piped.stdout).contains("DAMAGED") && !text(&piped.stdout).contains('\u{1b}'));
}
