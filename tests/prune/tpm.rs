//! A `tpm-state` that is a link to an older copy keeps its content when the older folder goes.

use std::fs;
use std::os::unix::fs::symlink;

use vmbackup::retention::{Rules, after_success};

use crate::book::Book;
use crate::tree::{Tree, days_ago, period, rules, scope};

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
