//! What can be verified: one file, a set, a tree with its archives, several of them.

use super::set_up::{flip, verify};
use crate::golden::Golden;
use crate::program::{text, vmstream};
use serde_json::Value;
use std::time::Duration;

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
