//! Whose tree lies at the backup path: a disk that is not mounted, disks in turn, another host's tree, `--init`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{DiskSpec, Lab, Vm, World, must, output_of, text};
use serde_json::{Value, json};
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

const LOCKED: i32 = 3;
const STORAGE: i32 = 4;
const VM: i32 = 5;

/// A folder that is mounted in the place of another: a disk of its own, as far as a backup path is concerned.
struct Disk {
    point: PathBuf,
}

impl Disk {
    fn mount(lab: &Lab, name: &str) -> Self {
        let (disk, point) = (lab.new_dir(name), lab.backup_path());
        must(Command::new("mount").arg("--bind").arg(&disk).arg(&point));
        Self { point }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        output_of(Command::new("umount").arg(&self.point));
    }
}

fn small_vm(lab: &Lab) -> Vm {
    let vm = lab.paused_vm("small", &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm
}

/// Runs the program; it must end with this code and say these words.
#[track_caller]
fn says(lab: &Lab, arguments: &[&str], code: i32, words: &[&str]) {
    let output = lab.vmbackup(arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder").count()
}

fn root_file(lab: &Lab) -> PathBuf {
    lab.backup_path().join("_state/root.json")
}

fn root(lab: &Lab) -> Value {
    serde_json::from_slice(&fs::read(root_file(lab)).expect("root.json")).expect("JSON")
}

/// Lets another host be the one that writes to the tree.
fn give_away(lab: &Lab) {
    let mut file = root(lab);
    file["machine_id"] = json!("f".repeat(32));
    file["host"] = json!("elsewhere");
    fs::write(root_file(lab), file.to_string()).expect("a file");
}

#[test]
fn beside_a_disk_that_is_not_mounted_nothing_is_written() {
    let lab = Lab::configured("not_mounted");
    let vm = small_vm(&lab);
    let run = ["--run", "--vm", vm.name()];
    let path = lab.backup_path();
    says(&lab, &["--run", "--dry-run"], 0, &[]);
    assert!(!lab.lib_dir().exists(), "a dry run notes nothing");
    fs::remove_dir_all(path.join("_state")).expect("the log of the dry run");

    let disk = Disk::mount(&lab, "disk-a");
    lab.run_well(&vm);
    let first = root(&lab);
    drop(disk);
    assert_eq!(entries(&path), 0);
    let checkpoints = vm.checkpoints();
    let words = ["Is the disk not mounted?", path.to_str().expect("text"), "disk-a", "vmbackup --init"];
    for arguments in [&run[..], &["--run", "--dry-run"], &["--replicate-only"], &["--cancel-replication"]] {
        says(&lab, arguments, STORAGE, &words);
    }
    says(&lab, &["--prune", "archives", "--yes"], STORAGE, &words);
    says(&lab, &["--check"], STORAGE, &["BAD   tree: ", "not mounted"]);
    says(&lab, &["--status", "--vm", vm.name()], VM, &["not mounted", "NO BACKUP"]);
    says(&lab, &["--prune", "list"], 0, &["No backup data"]);
    assert_eq!((entries(&path), vm.checkpoints()), (0, checkpoints), "nothing was written");

    // A second disk, used in turn.
    let disk = Disk::mount(&lab, "disk-b");
    says(&lab, &run, STORAGE, &words);
    says(&lab, &["--init", "--dry-run"], 0, &["disk-b", "disk-a", "[DRY-RUN]"]);
    says(&lab, &["--init"], 0, &["Continue?", "Cancelled"]);
    assert_eq!(entries(&path), 0, "nothing was written");
    says(&lab, &["--init", "--yes"], 0, &["is this host's now"]);
    assert_ne!(root(&lab)["id"], first["id"]);
    vm.delete_checkpoints();
    assert_eq!(lab.run_well(&vm).level(), "full");
    drop(disk);
    let disk = Disk::mount(&lab, "disk-a");
    assert_eq!(root(&lab), first);
    vm.delete_checkpoints();
    lab.run_well(&vm);

    // Emptied by hand.
    must(Command::new("bash").args(["-c", "rm -rf \"$1\"/*", "x"]).arg(&path));
    vm.delete_checkpoints();
    says(&lab, &["--check", "--vm", vm.name()], 0, &["look  tree: ", "was used before"]);
    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("it was emptied"), "{}", ended.log);
    assert_ne!(root(&lab)["id"], first["id"]);
    let ended = lab.run_well(&vm);
    assert!(!ended.log.contains("it was emptied"), "{}", ended.log);
    drop(disk);
}

#[test]
fn another_hosts_tree_is_read_and_not_written_to() {
    let lab = Lab::configured("other_host");
    let vm = small_vm(&lab);
    lab.run_well(&vm);
    says(&lab, &["--check", "--vm", vm.name()], 0, &["ok    tree: ", "is this host's"]);
    give_away(&lab);
    let world = || World::of(&lab, &[&vm]);
    let before = world();
    let words = ["another host, elsewhere", "vmbackup --init"];
    for arguments in [
        &["--run"][..],
        &["--run", "--vm", vm.name()],
        &["--replicate-only"],
        &["--cancel-replication"],
        &["--prune", "archives", "--yes"],
    ] {
        says(&lab, arguments, LOCKED, &words);
        world().assert_is(&before);
    }
    says(&lab, &["--check"], LOCKED, &["BAD   tree: ", "another host"]);
    says(&lab, &["--status", "--vm", vm.name()], 0, &[vm.name(), "good"]);
    says(&lab, &["--prune", "list"], 0, &[vm.name()]);
    says(&lab, &["--prune", "all", "--vm", vm.name(), "--dry-run"], 0, &[vm.name()]);
    says(&lab, &["--run", "--dry-run", "--vm", vm.name()], 0, &["another host", vm.name()]);
    says(&lab, &["--init", "--dry-run"], 0, &["the host elsewhere"]);
    world().assert_is(&before);

    fs::write(root_file(&lab), "{").expect("a file");
    says(&lab, &["--run"], STORAGE, &["root.json is damaged", "vmbackup --init"]);
    says(&lab, &["--init", "--yes"], 0, &["is damaged", "is this host's now"]);
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
}

#[test]
fn what_a_host_left_that_was_built_anew_refuses_no_vm_for_ever() {
    let lab = Lab::configured("rebuilt");
    let vm = small_vm(&lab);
    vm.resume();
    lab.run_well(&vm);
    vm.write("vda", 0, 4096, 2).expect("a write");
    lab.run_killed_at(&vm, FailPoint::Copying).wait();
    vm.wait_until_free(Duration::from_secs(60));
    let journals = lab.backup_path().join("_state/journal");
    let journal = journals.join(format!("{}.json", vm.name()));
    let mut left: Value = serde_json::from_slice(&fs::read(&journal).expect("a journal")).expect("JSON");
    left["host"] = json!("f".repeat(32));
    fs::write(&journal, left.to_string()).expect("a file");
    give_away(&lab);
    // A host that was built anew knows no checkpoints.
    vm.delete_checkpoints();
    let ended = lab.run(&vm);
    assert_eq!(ended.status.code(), Some(LOCKED), "{ended:#?}");
    says(&lab, &["--init", "--dry-run"], 0, &["given up: ", vm.name()]);
    assert!(journal.exists());
    says(&lab, &["--init", "--yes"], 0, &["Given up: ", vm.name()]);
    assert!(!journal.exists() && entries(&journals) == 1, "it is put aside");
    assert_eq!(lab.run_well(&vm).level(), "full");
    let raw = lab::extract(&lab, &lab.chain_dir(&vm), "vda", None);
    assert_eq!(vm.shadow("vda").equals(&raw), Ok(()));
    vm.write("vda", 0, 4096, 3).expect("a write");
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
}

#[test]
fn a_tree_that_nobody_has_named_is_taken_over() {
    let lab = Lab::configured("unnamed");
    let vm = small_vm(&lab);
    lab.run_well(&vm);
    // As an older program, or a Bash one, left it.
    fs::remove_file(root_file(&lab)).expect("ours");
    fs::remove_dir_all(lab.lib_dir()).expect("ours");
    vm.write("vda", 0, 4096, 2).expect("a write");
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
    let named = root(&lab);
    assert_eq!(named["machine_id"].as_str().map(str::len), Some(32), "{named}");
    // What is known of a host cannot be written: that stops nothing.
    fs::remove_dir_all(lab.lib_dir()).expect("ours");
    fs::write(lab.lib_dir(), "in the way").expect("a file");
    vm.write("vda", 0, 4096, 3).expect("a write");
    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("Cannot note whose backups these are"), "{}", ended.log);
}

#[test]
fn a_host_without_a_machine_id_gets_one_of_its_own() {
    let lab = Lab::configured("no_machine_id");
    let script = r#"mount --bind /dev/null /etc/machine-id && exec "$@""#;
    for _ in 0..2 {
        let mut command = Command::new("unshare");
        command.args(["-m", "bash", "-c", script, "x", env!("CARGO_BIN_EXE_vmbackup")]);
        command.arg("--config-dir").arg(lab.config_dir()).arg("--replicate-only");
        let output = output_of(command.env(lab::LIB_DIR, lab.lib_dir()));
        assert!(output.status.success(), "{}", text(&output));
    }
    let own = fs::read_to_string(lab.lib_dir().join("machine-id")).expect("an id");
    assert_eq!(root(&lab)["machine_id"], own.trim());
    // It stays, also when the system has one later.
    says(&lab, &["--replicate-only"], 0, &[]);
}
