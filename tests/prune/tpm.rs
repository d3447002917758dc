//! A `tpm-state` that is a link to an older copy keeps its content when the older folder goes.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use lab::{Lab, must};
use vmbackup::retention::{Rules, after_success};

use super::book::Book;
use super::tree::{Tree, days_ago, period, rules, scope, write_chain};

fn state(tree: &Tree, dir: &str, text: &str) {
    fs::create_dir_all(tree.at(dir).join("tpm-state/tpm2")).expect("a folder");
    fs::write(tree.at(dir).join("tpm-state/tpm2/tpm2-00.permall"), text).expect("a file");
}

fn read(tree: &Tree, dir: &str) -> String {
    let file = tree.at(dir).join("tpm-state/tpm2/tpm2-00.permall");
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn links_into_a_folder_that_goes_keep_their_content() {
    let tree = Tree::new();
    let days = ["web/20261122", "web/20261121", "web/20261120", "web/20261119", "web/20261118"];
    for (dir, ago) in days.iter().zip(0..) {
        tree.chain(dir, &[days_ago(ago)]);
    }
    let archive = "web/20261121/.archives/chain-2026-11-21";
    tree.chain(archive, &[days_ago(1)]);
    state(&tree, days[4], "oldest");
    state(&tree, days[3], "older");
    let link = |dir: &str, to: &str| symlink(to, tree.at(dir).join("tpm-state")).expect("a link");
    // Newest to oldest: a link to a link, two links to one copy, one of them from deeper inside, one of its own.
    link(days[0], "../20261121/tpm-state");
    link(days[1], "../20261118/tpm-state");
    link(archive, "../../../20261118/tpm-state");
    link(days[2], "../20261119/tpm-state");
    let (current, rules) = (period("20261122"), Rules { days: 3, ..rules() });
    let report = after_success(&scope(&tree.path(), &current, &rules), &Book::default()).expect("retention");
    assert_eq!((report.removed, report.failures), (2, vec![]));
    for dir in [days[0], days[1], archive] {
        assert_eq!(read(&tree, dir), "oldest", "{dir}");
    }
    assert_eq!(read(&tree, days[2]), "older");
    // One is the copy, the others lead to it.
    let copies = [days[0], days[1], archive]
        .into_iter()
        .filter(|dir| !tree.at(dir).join("tpm-state").symlink_metadata().expect("it is there").is_symlink());
    assert_eq!(copies.count(), 1);
    assert!(!tree.at(days[3]).exists() && !tree.at(days[4]).exists());
}

/// Becomes another program, for which no file system can let two entries change places: the kernel answers
/// `renameat2` with RENAME_EXCHANGE as it does for those that cannot (EINVAL).
const WITHOUT_EXCHANGE: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
renameat2 = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06
steps = [
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, renameat2),  # the number of the call
    (LOAD, 0, 0, 48), (SET, 0, 1, 2),           # its flags
    (RETURN, 0, 0, 0x00050000 | 22), (RETURN, 0, 0, 0x7fff0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("code", ctypes.c_void_p)]
rules = Filter(len(steps), ctypes.cast(code, ctypes.c_void_p))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(rules), 0, 0) == 0
assert libc.renameat2(-100, b"/none", -100, b"/none", 2) == -1 and ctypes.get_errno() == 22
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn content_moves_also_where_entries_cannot_change_places() {
    let lab = Lab::configured("no_exchange");
    let [old, new] = ["20260101", "20260102"].map(|day| lab.backup_path().join("web").join(day));
    for (chain, ago) in [(&old, 2), (&new, 1)] {
        write_chain(chain, "web", &[days_ago(ago)]);
    }
    fs::create_dir(old.join("tpm-state")).expect("a folder");
    fs::write(old.join("tpm-state/secret"), "the content").expect("a file");
    symlink("../20260101/tpm-state", new.join("tpm-state")).expect("a link");
    let vmbackup = lab.vmbackup_command();
    let mut command = Command::new("python3");
    command.args(["-c", WITHOUT_EXCHANGE]).arg(vmbackup.get_program()).args(vmbackup.get_args());
    command.envs(vmbackup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    must(command.args(["--prune", "period:20260101", "--vm", "web", "--yes"]));
    assert!(!old.exists());
    assert!(!new.join("tpm-state").is_symlink());
    assert_eq!(fs::read_to_string(new.join("tpm-state/secret")).expect("it stays"), "the content");
    let hidden =
        fs::read_dir(&new).expect("a chain").flatten().filter(|entry| entry.file_name() == ".tpm-state.old");
    assert_eq!(hidden.count(), 0);
}
