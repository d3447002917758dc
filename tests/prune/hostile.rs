//! Trees that want to lead a removal out of the backup path.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use lab::Lab;
use vmbackup::retention::{
    FolderError, Initiator, Look, Place, PlannedRemoval, Remover, RetentionDecision, Rules, Why,
    after_success, read,
};

use super::book::Book;
use super::tree::{Tree, days_ago, period, rules, scope, write_chain};

fn remove(tree: &Tree, place: &Place) -> Result<u64, FolderError> {
    let book = Book::default();
    let inventory = read(&tree.store(), Look::Sizes).expect("an inventory");
    let vm = &inventory.vms[0];
    let remover = Remover::open(&tree.path(), &book, &|_| {}).expect("a backup path");
    let removal = PlannedRemoval::of(vm, place.clone(), Initiator::Prune);
    remover.remove(vm, &removal).result
}

#[test]
fn names_with_dots_and_slashes_lead_nowhere() {
    let tree = Tree::new();
    tree.chain("web/202611", &[days_ago(0)]);
    let before = tree.snapshot();
    let places = [
        Place::period("..", &period("202611")),
        Place::period("../outside", &period("202611")),
        Place::period("", &period("202611")),
        Place::period(".", &period("202611")),
        Place::archive("web", &period("202611"), ".."),
        Place::archive("web", &period("202611"), ""),
        Place::archive("web", &period("202611"), "../../202611"),
        Place::archive("web", &period("202611"), "/etc"),
        Place::archive("web/202611", &period("accumulate"), "x"),
    ];
    for place in places {
        assert!(remove(&tree, &place).is_err(), "{place:?}");
        assert_eq!(tree.snapshot(), before, "{place:?}");
    }
}

#[test]
fn links_in_place_of_folders_are_refused() {
    let tree = Tree::new();
    tree.chain("web/202611", &[days_ago(0)]);
    tree.chain("web/202610", &[days_ago(30)]);
    let target = tree.outside().join("202601");
    write_chain(&target, "web", &[days_ago(300)]);
    write_chain(&tree.outside().join("chain-2026-01-01"), "web", &[days_ago(300)]);
    symlink(&target, tree.at("web/202601")).expect("a link");
    symlink(tree.outside(), tree.at("linked")).expect("a link");
    symlink(tree.outside(), tree.at("web/202610/.archives")).expect("a link");
    let before = tree.snapshot();
    let inventory = read(&tree.store(), Look::Dates).expect("an inventory");
    let names: Vec<&str> = inventory.vms[0].periods.iter().map(|period| period.id.as_str()).collect();
    assert_eq!((inventory.vms.len(), names), (1, vec!["202610", "202611"]));
    let places = [
        Place::period("web", &period("202601")),
        Place::period("linked", &period("202601")),
        Place::archive("web", &period("202610"), "chain-2026-01-01"),
    ];
    for place in places {
        let refused = remove(&tree, &place);
        assert!(
            matches!(refused, Err(FolderError::Link(_) | FolderError::Gone(_))),
            "{place:?}: {refused:?}"
        );
        assert_eq!(tree.snapshot(), before, "{place:?}");
    }
    // The period that holds such a link goes; the link goes with it, what it leads to stays.
    remove(&tree, &Place::period("web", &period("202610"))).expect("it can be removed");
    let mut want = before;
    want.retain(|path, _| !path.starts_with("backups/web/202610"));
    assert_eq!(tree.snapshot(), want);
}

#[test]
fn strange_names_inside_go_with_their_period() {
    let tree = Tree::new();
    tree.chain("web/202611", &[days_ago(0)]);
    let dir = tree.chain("web/202601", &[days_ago(300)]);
    symlink(tree.outside(), dir.join("config")).expect("a link");
    symlink("/etc/passwd", dir.join("vdz.full.data")).expect("a link");
    symlink("..", dir.join("up")).expect("a link");
    fs::write(dir.join(OsStr::from_bytes(b"new\nline \xff\xfe")), "x").expect("a file");
    fs::create_dir_all(dir.join("...").join(" ").join("-rf *")).expect("folders");
    let passwd = fs::read("/etc/passwd").expect("it is there");
    let mut want = tree.snapshot();
    want.retain(|path, _| !path.starts_with("backups/web/202601"));
    remove(&tree, &Place::period("web", &period("202601"))).expect("it can be removed");
    assert_eq!(tree.snapshot(), want);
    assert_eq!(fs::read("/etc/passwd").expect("it is there"), passwd);
}

#[test]
fn a_mounted_file_system_stays_and_so_does_the_period_around_it() {
    let lab = Lab::new("prune-mount");
    let tree = Tree::new();
    let days = ["20261122", "20261121"];
    for (day, ago) in days.iter().zip(0..) {
        tree.chain(&format!("web/{day}"), &[days_ago(ago)]);
    }
    // In the period, and in place of one.
    for at in ["web/20261121/config", "web/20261120"] {
        let mounted = lab.small_file_system(&format!("mounted-{}", at.len()), 1);
        fs::create_dir_all(tree.at(at)).expect("a folder");
        let bind =
            std::process::Command::new("mount").arg("--bind").arg(mounted.path()).arg(tree.at(at)).status();
        assert!(bind.expect("mount can be started").success());
        fs::write(tree.at(at).join("theirs"), "x").expect("a file");
        let before = tree.snapshot();
        let place =
            Place::period("web", &period(if at.ends_with("config") { "20261121" } else { "20261120" }));
        let refused = remove(&tree, &place);
        let current = period("20261122");
        let rules = Rules { days: 1, ..rules() };
        let path = tree.path();
        let report = after_success(&scope(&path, &current, &rules), &Book::default()).expect("retention");
        let unmount = std::process::Command::new("umount").arg(tree.at(at)).status();
        let mounted_file = mounted.path().join("theirs");
        assert!(mounted_file.exists(), "{at}");
        assert!(unmount.expect("umount can be started").success());
        fs::remove_dir(tree.at(at)).expect("it is empty now");
        assert!(matches!(refused, Err(FolderError::Mount(_))), "{at}: {refused:?}");
        assert!(before.contains_key(std::path::Path::new("backups/web/20261121/vda.full.data")));
        assert!(tree.at("web/20261121/vda.full.data").exists(), "{at}: {report:?}");
        let held = |verdict: &vmbackup::retention::Verdict| {
            verdict.decision == RetentionDecision::Keep(Why::Unreadable)
        };
        assert!(report.plan.verdicts.iter().any(held), "{at}: {report:?}");
    }
}

#[test]
fn where_the_storage_shows_its_snapshots_the_rest_goes_all_the_same() {
    let lab = Lab::new("prune-snapshot");
    let tree = Tree::new();
    for (day, ago) in ["20261122", "20261121", "20261120"].into_iter().zip(0..) {
        tree.chain(&format!("web/{day}"), &[days_ago(ago)]);
    }
    let shown = ["web/.snapshot", "web/20261122/.snapshot", "web/20261121/.zfs"].map(|at| tree.at(at));
    for at in &shown {
        fs::create_dir_all(at.join("nightly.0/20261120/.archives/chain-2026-11-20")).expect("a folder");
    }
    // As a NetApp shows one of them.
    let mounted = lab.small_file_system("snapshots", 1);
    fs::write(mounted.path().join("theirs"), "x").expect("a file");
    let mount = |options: &[&str]| {
        let mut mount = std::process::Command::new("mount");
        let ended = mount.args(options).arg(mounted.path()).arg(&shown[0]).status();
        assert!(ended.expect("mount can be started").success());
    };
    mount(&["--bind", "--options", "ro"]);
    let (current, rules, path) = (period("20261122"), Rules { days: 1, ..rules() }, tree.path());
    let inventory = read(&tree.store(), Look::Dates);
    let report = after_success(&scope(&path, &current, &rules), &Book::default());
    let is_there = mounted.path().join("theirs").exists();
    let reachable = vmstore::remove::reach(&path, std::path::Path::new("web"));
    assert!(std::process::Command::new("umount").arg(&shown[0]).status().expect("umount").success());
    let inventory = inventory.expect("an inventory");
    let mut of_storage = inventory.of_storage;
    of_storage.sort();
    assert_eq!(of_storage, {
        let mut all = shown.to_vec();
        all.sort();
        all
    });
    assert!(inventory.unreadable.is_empty() && is_there, "{:?}", inventory.unreadable);
    reachable.expect("a backup is not stopped by it");
    let report = report.expect("retention");
    assert_eq!(report.removed, 1, "{report:?}");
    assert!(!tree.at("web/20261120").exists());
    // Nobody could remove what is in that one, so nothing of it goes.
    assert!(tree.at("web/20261121/vda.full.data").exists());
    let [failure] = &report.failures[..] else { panic!("{report:?}") };
    assert!(failure.contains("web/20261121/.zfs belongs to the storage"), "{failure}");
    let vm = tree.store().vm("web");
    assert!(vm.sets().flatten().all(|set| !shown.iter().any(|at| set.folder.starts_with(at))));
}

#[test]
fn in_a_vms_folder_on_a_disk_of_its_own_all_is_as_in_any_other() {
    let lab = Lab::new("prune-own-disk");
    let tree = Tree::new();
    let disk = lab.small_file_system("own", 4);
    fs::create_dir_all(tree.at("web")).expect("a folder");
    let mount = |program: &str, what: &[&OsStr]| {
        let ended = std::process::Command::new(program).args(what).arg(tree.at("web")).status();
        assert!(ended.expect("it can be started").success(), "{program}");
    };
    mount("mount", &["--bind".as_ref(), disk.path().as_os_str()]);
    tree.chain("web/202611", &[days_ago(0)]);
    tree.chain("web/202601", &[days_ago(300)]);
    let inventory = read(&tree.store(), Look::Dates).expect("an inventory");
    assert!(inventory.unreadable.is_empty(), "{:?}", inventory.unreadable);
    let mut want = tree.snapshot();
    want.retain(|path, _| !path.starts_with("backups/web/202601"));
    let removed = remove(&tree, &Place::period("web", &period("202601")));
    let left = tree.snapshot();
    // The last period goes too; the folder is the disk's, and stays.
    let last = remove(&tree, &Place::period("web", &period("202611")));
    let book = Book::default();
    let folder = Remover::open(&tree.path(), &book, &|_| {}).expect("a path").remove_vm_folder("web");
    let is_there = tree.at("web").is_dir();
    mount("umount", &[]);
    removed.expect("it can be removed");
    assert_eq!(left, want);
    last.expect("it can be removed");
    folder.expect("it can be looked at");
    assert!(is_there);
}
