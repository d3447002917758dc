//! Nothing is passed over in silence: folders that are not looked at, streams that cannot be.

use super::set_up::remove;
use crate::golden::Golden;
use crate::program::{text, vmstream};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn nothing_below_a_folder_is_passed_over_in_silence() {
    let golden = Golden::extract();
    let (root, elsewhere) = (golden.root().join("tree"), golden.root().join("elsewhere"));
    fs::create_dir_all(&elsewhere).unwrap();
    fs::rename(golden.root().join("lz4/gold1"), elsewhere.join("gold1")).unwrap();
    fs::create_dir_all(root.join("plain")).unwrap();
    fs::rename(golden.plain(), root.join("plain/202611")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("gold1"), root.join("gold1")).unwrap();
    // In circles, and up.
    std::os::unix::fs::symlink(&root, root.join("again")).unwrap();
    std::os::unix::fs::symlink("/", root.join("all")).unwrap();
    let verify = |path: &Path| {
        let done = vmstream(path, &["verify", "."]);
        (done.status.code(), text(&done.stdout).to_owned(), text(&done.stderr).to_owned())
    };
    let (exit, said, notes) = verify(&root);
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("gold1 in ./gold1/202611: good") && said.contains("2 backup sets"), "{said}");
    assert!(notes.contains("./all is not looked at"), "{notes}");
    // A VM's folder that has become a set, by a file that somebody put there.
    for stray in ["stray.cpt", "vda.full.data.chksum"] {
        fs::write(elsewhere.join("gold1").join(stray), "[]").unwrap();
        let (exit, said, _) = verify(&elsewhere.join("gold1"));
        assert!(exit != Some(0) && said.contains("gold1 in ./202611: good"), "{stray} {said}");
        fs::remove_file(elsewhere.join("gold1").join(stray)).unwrap();
    }
    // An archive beside its chain is looked at too, unless somebody says no.
    let chain = elsewhere.join("gold1/202611");
    fs::create_dir_all(chain.join(".archives")).unwrap();
    fs::rename(golden.copy(), chain.join(".archives/chain-2026-11-22")).unwrap();
    let (exit, said, _) = verify(&chain);
    assert_eq!(exit, Some(2), "{said}");
    assert!(
        said.contains("vdb: good\n\ngold1 in .: good") && said.contains("chain-2026-11-22: UNPROVEN"),
        "{said}"
    );
    let done = vmstream(&chain, &["verify", ".", "--no-archives"]);
    let notes = text(&done.stderr);
    assert_eq!((done.status.code(), notes.contains("1 archived chain below .")), (Some(0), true), "{notes}");
    // Folders that are called like those of the programs, where these have none.
    for at in ["deep/_state/x", "deep/__HOST_CONFIG__", "tpm-state"] {
        let tree = golden.root().join("named");
        fs::create_dir_all(tree.join(at).parent().unwrap()).unwrap();
        fs::rename(chain.join(".archives/chain-2026-11-22"), tree.join(at)).unwrap();
        let (exit, said, _) = verify(&tree);
        assert!(exit == Some(2) && said.contains(&format!("./{at}: UNPROVEN")), "{at} {exit:?} {said}");
        fs::rename(tree.join(at), chain.join(".archives/chain-2026-11-22")).unwrap();
    }
    // What is left of a set without streams is no set, and said.
    fs::create_dir_all(root.join("left")).unwrap();
    fs::write(root.join("left/vda.full.data.chksum"), "1").unwrap();
    assert!(verify(&root).1.contains("unreadable: ./left holds no backup set"), "{}", verify(&root).1);
}

#[test]
fn doctor_and_info_say_where_they_cannot_look() {
    let golden = Golden::extract();
    let (dir, name) = (golden.lz4(), "vda.inc.virtnbdbackup.1.data");
    let good = fs::read(dir.join(name)).unwrap();
    let spoil = |content: Option<&[u8]>| match content {
        None => fs::remove_file(dir.join(name)).unwrap(),
        Some(content) => fs::write(dir.join(name), content).unwrap(),
    };
    for content in [Some(&b""[..]), Some(&good[..good.len() / 2]), None] {
        spoil(content);
        let done = vmstream(&dir, &["doctor", "--json", "."]);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        let unknown = json["sets"][0]["unknown"].as_array().unwrap();
        assert_eq!(unknown.len(), 1, "{json}");
        assert!(!json["sets"][0]["sound_points"].to_string().contains("virtnbdbackup.1"), "{json}");
        let shown = vmstream(&dir, &["doctor", "."]);
        assert!(text(&shown.stdout).contains("cannot tell of 1 stream"), "{}", text(&shown.stdout));
        let info = vmstream(&dir, &["info", "."]);
        assert_eq!(info.status.code(), Some(1), "{}", text(&info.stdout));
    }
    // Nothing to look at is nothing to be sure of.
    remove(&dir, |name| name.ends_with(".data"));
    fs::write(dir.join("gold1.cpt"), "[]").unwrap();
    let shown = vmstream(&dir, &["doctor", "."]);
    assert_eq!(shown.status.code(), Some(2), "{}", text(&shown.stdout));
    assert!(!text(&shown.stdout).contains("nothing to fear"));
}
