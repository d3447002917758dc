//! Folders of points as runs write them, one after the other.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use jiff::{Timestamp, Zoned};
use zeroize::Zeroizing;

use super::names::PREFIX;
use super::newest::{FORMER, NEXT};
use super::same::RULE;
use super::{Owner, TpmFolder, folder_of, renew};
use crate::identity::TpmState;

fn state(content: &str) -> TpmState {
    TpmState { files: vec![("tpm2/tpm2-00.permall".into(), Zeroizing::new(content.into()))] }
}

fn keys(time: &str, password: &str) -> Option<Zeroizing<Vec<u8>>> {
    Some(Zeroizing::new(format!("Extracted: {time}\n{RULE}\n{password}").into_bytes()))
}

/// Writes the folder of a point as a run does. Tells whether it is a link.
fn save(dir: &Path, number: u32, state: TpmState, keys: Option<Zeroizing<Vec<u8>>>) -> bool {
    let owner =
        Owner { domain: "web", uuid: "u-1", source: Path::new("/swtpm/u-1"), now: Timestamp::UNIX_EPOCH };
    let parent = number.checked_sub(1).map(|n| format!("virtnbdbackup.{n}"));
    let before = parent.as_ref().and_then(|parent| folder_of(dir, parent, |_| true).unwrap());
    let ident = format!("virtnbdbackup.{number}");
    let folder = TpmFolder::new(dir, &ident, (number > 0, before), state, keys, &owner);
    folder.prepare(dir).unwrap();
    for (name, content) in folder.files() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder.settle(dir, parent.as_deref(), &Zoned::now()).unwrap();
    assert!(!dir.join("tpm-state").is_symlink());
    dir.join(&folder.name).is_symlink()
}

fn read(dir: &Path, place: &str) -> String {
    fs::read_to_string(dir.join(place).join("tpm2/tpm2-00.permall")).unwrap()
}

/// The hidden entries, sorted.
fn hidden(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(PREFIX)).collect();
    names.sort();
    names
}

#[test]
fn each_point_has_its_own_state_and_an_unchanged_one_is_a_link() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    assert!(!save(dir, 0, state("a"), None));
    assert!(save(dir, 1, state("a"), None));
    assert!(!save(dir, 2, state("b"), None));
    assert!(save(dir, 3, state("b"), None));
    for (number, want) in ["a", "a", "b", "b"].iter().enumerate() {
        assert_eq!(read(dir, &format!(".tpm-state.virtnbdbackup.{number}")), *want);
    }
    let text = fs::read_to_string(dir.join("tpm-state/BACKUP_METADATA.txt")).unwrap();
    assert!(text.lines().any(|line| line.split_whitespace().eq(["VM", "UUID:", "u-1"])), "{text}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o7777
    };
    let modes = ["tpm-state", "tpm-state/tpm2", "tpm-state/tpm2/tpm2-00.permall"].map(mode);
    assert_eq!(modes, [0o700, 0o700, 0o600]);
    // What writes into it in place changes no point.
    fs::write(dir.join("tpm-state/tpm2/tpm2-00.permall"), "in place").unwrap();
    assert_eq!(read(dir, ".tpm-state.virtnbdbackup.2"), "b");
    // All of it moves with the chain.
    let moved = tempfile::tempdir().unwrap();
    fs::rename(dir, moved.path().join("chain")).unwrap();
    assert_eq!(read(&moved.path().join("chain"), ".tpm-state.virtnbdbackup.3"), "b");
    fs::create_dir(dir).unwrap();
}

#[test]
fn what_a_dead_run_did_not_do_is_done_by_the_next() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    assert!(!save(dir, 0, state("a"), None));
    let renewed = || renew(dir, Some("virtnbdbackup.0")).unwrap();
    assert!(!renewed(), "it is there");
    fs::remove_dir_all(dir.join("tpm-state")).unwrap();
    assert!(renewed());
    // A link of an older version, to this point's folder or to one that is gone.
    for target in [".tpm-state.virtnbdbackup.0", ".tpm-state.copy"] {
        fs::remove_dir_all(dir.join("tpm-state")).unwrap();
        symlink(target, dir.join("tpm-state")).unwrap();
        assert!(renewed(), "{target}");
        assert!(!dir.join("tpm-state").is_symlink());
        assert_eq!(read(dir, "tpm-state"), "a");
    }
    // Died between two renames, where names cannot be exchanged.
    fs::rename(dir.join("tpm-state"), dir.join(FORMER)).unwrap();
    fs::create_dir(dir.join(NEXT)).unwrap();
    assert!(!renew(dir, None).unwrap());
    assert_eq!(read(dir, "tpm-state"), "a");
    fs::create_dir(dir.join(FORMER)).unwrap();
    renew(dir, None).unwrap();
    assert_eq!(hidden(dir), [".tpm-state.virtnbdbackup.0"]);
    assert!(!renew(dir, Some("virtnbdbackup.7")).unwrap(), "no state at that point");
    // Without a point the link becomes a folder all the same.
    fs::remove_dir_all(dir.join("tpm-state")).unwrap();
    symlink(".tpm-state.virtnbdbackup.0", dir.join("tpm-state")).unwrap();
    assert!(renew(dir, None).unwrap());
    assert!(!dir.join("tpm-state").is_symlink());
}

#[test]
fn other_recovery_keys_make_another_folder_a_later_time_does_not() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    assert!(!save(dir, 0, state("a"), keys("1", "111")));
    assert!(save(dir, 1, state("a"), keys("2", "111")));
    assert!(!save(dir, 2, state("a"), keys("3", "222")));
    assert!(!save(dir, 3, state("a"), None));
}

#[test]
fn a_folder_of_an_older_program_becomes_that_of_its_point() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::create_dir_all(dir.join("tpm-state/tpm2")).unwrap();
    fs::write(dir.join("tpm-state/tpm2/tpm2-00.permall"), "old").unwrap();
    assert!(!save(dir, 1, state("newer"), None));
    assert_eq!(read(dir, ".tpm-state.virtnbdbackup.0"), "old");
    assert_eq!(read(dir, "tpm-state"), "newer");
    // A leftover of an attempt that failed is replaced.
    assert!(save(dir, 2, state("newer"), None));
    assert!(!save(dir, 2, state("new"), None));
    assert_eq!(read(dir, "tpm-state"), "new");
    // The Bash program wrote a state of its own meanwhile, and no point of ours has it.
    fs::write(dir.join("tpm-state/tpm2/tpm2-00.permall"), "bash").unwrap();
    assert!(!save(dir, 4, state("newest"), None));
    assert_eq!(read(dir, ".tpm-state.virtnbdbackup.3"), "bash");
    assert_eq!(read(dir, ".tpm-state.virtnbdbackup.2"), "new");
}

#[test]
fn what_is_of_another_chain_does_not_count_and_is_not_lost() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    assert!(!save(dir, 0, state("a"), None));
    assert!(save(dir, 1, state("a"), None));
    let folder = |ident: &str, ours: &'static str| folder_of(dir, ident, |id| id == ours).unwrap();
    assert_eq!(folder("virtnbdbackup.0", "virtnbdbackup.0").as_deref(), Some(".tpm-state.virtnbdbackup.0"));
    assert_eq!(folder("virtnbdbackup.0", "virtnbdbackup.1"), None);
    assert_eq!(folder("virtnbdbackup.1", "virtnbdbackup.1"), None, "it is a link to one that does not count");
    assert_eq!(folder("virtnbdbackup.2", "virtnbdbackup.2"), None);
    // The chain was archived without it, and the next has come as far.
    fs::create_dir_all(dir.join(".tpm-state.virtnbdbackup.2/tpm2")).unwrap();
    fs::write(dir.join(".tpm-state.virtnbdbackup.2/tpm2/tpm2-00.permall"), "archived").unwrap();
    assert!(save(dir, 2, state("a"), None));
    assert_eq!(read(dir, ".tpm-state.virtnbdbackup.2.old.1"), "archived");
}
