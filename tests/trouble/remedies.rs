//! What keeps a backup from beginning: it is seen before anything is touched, also by a dry run, and what helps is said.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{DiskSpec, History, Lab, Vm, VmSpec, children_of, must, program, text, virsh};
use random::Random;
use rustix::process::{Signal, kill_process};
use vmbackup::engine::fail_point::FailPoint;

use super::set_up::{
    MIB, TOOL, VM, abort_job, assert_no_journal, back_up, begin_other_job, noise_file, small_vm,
};

/// Run and dry run refuse with these words, without others, and at the first try.
#[track_caller]
fn refused(lab: &Lab, vm: &Vm, words: &[&str], not: &[&str]) {
    let dry = lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
    let ended = lab.run(vm);
    assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
    for said in [text(&dry), ended.error()] {
        words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in {said}"));
        not.iter().for_each(|word| assert!(!said.contains(word), "{word:?} in {said}"));
    }
    assert_no_journal(&lab.backup_path());
}

/// A process number that nobody has.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().expect("true can be started");
    child.wait().expect("it ends");
    child.id()
}

#[test]
fn a_job_is_to_be_ended_only_where_its_owner_is_dead() {
    let lab = Lab::configured("job_owner");
    let open = lab.small_file_system("open", 16);
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);

    let socket = PathBuf::from(format!("/var/tmp/virtnbdbackup.{}", dead_pid()));
    let job = begin_other_job(&lab, &vm, open.path(), &socket);
    let reader = UnixStream::connect(&socket).expect("QEMU serves it");
    refused(&lab, &vm, &["already has a job", "virtnbdbackup (PID ", "is at work"], &["domjobabort"]);
    drop(reader);
    let advice = format!("virsh domjobabort '{}'", vm.name());
    // QEMU takes its time to see that nobody reads any more.
    while !lab.run(&vm).error().contains(&advice) {
        assert_eq!(vm.backup_job().as_ref(), Some(&job), "the job goes on");
    }
    refused(&lab, &vm, &["is dead. Nobody else will end it", &advice], &[]);
    abort_job(&vm);

    let socket = open.path().join("other.sock");
    begin_other_job(&lab, &vm, open.path(), &socket);
    let shown = socket.display().to_string();
    refused(&lab, &vm, &["nobody here can tell whose it is", &shown], &["domjobabort"]);
    abort_job(&vm);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_block_job_is_seen_before_the_guest_is_held() {
    let lab = Lab::configured("block_job");
    let open = lab.small_file_system("open", 32);
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let copy = open.path().join("copy.qcow2");
    virsh(&["blockcopy", vm.name(), "vda", copy.to_str().expect("text"), "--transient-job"]);
    let words = ["a block copy of disk vda", "virsh blockjob '", "--info", "--pivot", "--abort"];
    refused(&lab, &vm, &words, &["domjobabort"]);
    // A run that comes so far as to hold the guest is killed there.
    let ended = lab.run_killed_at(&vm, FailPoint::Held).wait();
    assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
    virsh(&["blockjob", vm.name(), "vda", "--abort"]);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_vm_that_is_paused_after_its_memory_was_restored_keeps_its_chain() {
    let lab = Lab::configured("managed_save");
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    virsh(&["managedsave", vm.name(), "--paused"]);
    virsh(&["start", vm.name()]);
    let advice = format!("virsh resume '{}'", vm.name());
    refused(&lab, &vm, &["virsh managedsave", &advice], &["dirty bitmap is lost"]);
    virsh(&["resume", vm.name()]);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn an_image_that_is_gone_is_said_at_once() {
    let lab = Lab::new("no_image");
    // Waiting would outlast the test.
    lab.configure(&[("MAX_RETRIES", "3"), ("RETRY_DELAY", "3600")]);
    let vm = lab.define(&VmSpec::new("lost").disk(DiskSpec::new("vda", MIB)));
    let (image, aside) = (vm.disk_path("vda"), lab.path().join("aside.qcow2"));
    fs::rename(&image, &aside).expect("the image");
    let shown = image.display().to_string();
    let words = ["Disk vda has no image", &shown, "mount the file system", "virsh detach-disk '"];
    refused(&lab, &vm, &words, &["try 1"]);
    // One that backs it is as good as the disk itself.
    let base = lab.path().join("base.qcow2");
    let backing = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&base).arg("1M"));
    must(Command::new("qemu-img").args(backing).arg(&base).arg(&image));
    fs::remove_file(&base).expect("ours");
    let words = ["base.qcow2", "No such file", "Put that file back, or mount"];
    refused(&lab, &vm, &words, &["try 1"]);
    let check = text(&lab.vmbackup(&["--check", "--vm", vm.name()]));
    assert!(check.contains("BAD   VM: ") && check.contains(words[2]), "{check}");
    fs::rename(&aside, &image).expect("the image");
    assert_eq!(lab.run_well(&vm).level(), "copy");
}

/// A persistent pool. Gone when dropped.
struct Pool(String);

impl Pool {
    fn new(lab: &Lab, folder: &Path) -> Self {
        let name = format!("{}remedy", lab.prefix());
        virsh(&["pool-define-as", &name, "dir", "--target", folder.to_str().expect("text")]);
        virsh(&["pool-start", &name]);
        Self(name)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for words in [["pool-destroy", &self.0], ["pool-undefine", &self.0]] {
            let _ = Command::new("virsh").args(["-q", "-c", "qemu:///system"]).args(words).output();
        }
    }
}

#[test]
fn a_pool_that_is_not_active_is_to_be_started() {
    let lab = Lab::configured("inactive_pool");
    let folder = lab.new_dir("pool");
    let pool = Pool::new(&lab, &folder);
    virsh(&["vol-create-as", &pool.0, "one.qcow2", "1M", "--format", "qcow2"]);
    let source = format!("<source pool='{}' volume='one.qcow2'/>", pool.0);
    let disk = DiskSpec::new("vda", MIB).made(&folder.join("one.qcow2"), "volume", &source);
    let vm = lab.define(&VmSpec::new("pooled").disk(disk));
    assert_eq!(lab.run_well(&vm).level(), "copy");
    virsh(&["pool-destroy", &pool.0]);
    let advice = format!("virsh pool-start '{}'", pool.0);
    refused(&lab, &vm, &["disk vda", &advice], &[]);
    let check = text(&lab.vmbackup(&["--check", "--vm", vm.name()]));
    assert!(check.contains("BAD   VM: ") && check.contains(&advice), "{check}");
    virsh(&["pool-start", &pool.0]);
    fs::remove_file(folder.join("one.qcow2")).expect("the volume");
    virsh(&["pool-refresh", &pool.0]);
    refused(&lab, &vm, &[&format!("virsh pool-refresh '{}'", pool.0)], &[]);
}

#[test]
fn a_server_that_ends_says_why_in_its_own_words() {
    let lab = Lab::configured("own_words");
    let file = |name: &str, content: &str| {
        let path = lab.path().join(name);
        fs::write(&path, content).expect("a file");
        path
    };
    let (right, wrong) = (file("right", "the key"), file("wrong", "another key"));
    let image = lab.path().join("secret.qcow2");
    let object = format!("secret,id=key,file={}", right.display());
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let create = ["create", "-q", "-f", "qcow2", "--object", &object, "-o", options];
    must(Command::new("qemu-img").args(create).arg(&image).arg("1M"));
    let xml = file(
        "secret.xml",
        &format!(
            "<secret ephemeral='no' private='no'><usage type='volume'><volume>{}</volume></usage></secret>",
            image.display()
        ),
    );
    let said = must(Command::new("virsh").args(["-c", "qemu:///system", "secret-define"]).arg(&xml));
    let uuid = said.split_whitespace().find(|word| word.len() == 36).expect("a UUID").to_owned();
    virsh(&["secret-set-value", &uuid, "--file", wrong.to_str().expect("text"), "--plain"]);
    let source = format!(
        "<source file='{}'><encryption format='luks'><secret type='passphrase' uuid='{uuid}'/></encryption></source>",
        image.display()
    );
    let vm = lab.define(&VmSpec::new("secret").disk(DiskSpec::new("vda", MIB).made(&image, "file", &source)));
    for _ in 0..4 {
        let error = lab.run(&vm).error();
        assert!(error.contains("Invalid password"), "{error}");
        assert!(!error.contains("reset by peer"), "{error}");
    }
    virsh(&["secret-undefine", &uuid]);
}

#[test]
fn a_server_that_is_killed_in_mid_copy_is_said_and_nothing_stays() {
    let lab = Lab::new("killed_server");
    lab.configure(&[("TARGET_BANDWIDTH", "1"), ("COMPRESSION", "none")]);
    // More than a run holds in memory.
    let noise = noise_file(&lab, &mut Random::from_environment("LAB_SEED"), 128 * MIB);
    let vm = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", 128 * MIB).content(&noise)));
    let mut run = lab.begin_run(lab.run_command(&[&vm]));
    let has_data = || {
        let files = must(Command::new("find").arg(lab.backup_path()).args([
            "-name",
            "*.data.partial",
            "-size",
            "+1M",
        ]));
        !files.is_empty()
    };
    while !has_data() {
        assert!(run.is_alive(), "it ends too early: {}", run.log());
    }
    let servers: Vec<_> =
        children_of(run.pid()).into_iter().filter(|(_, name, _)| name == "qemu-nbd").collect();
    assert_eq!(servers.len(), 1, "{servers:?}");
    kill_process(servers[0].0, Signal::KILL).expect("it is there");
    let ended = run.wait();
    assert_eq!(ended.status.code(), Some(TOOL), "{ended:#?}");
    let want = "qemu-nbd ended while disk vda was copied: it was killed";
    assert!(ended.error().contains(want), "{}", ended.error());
    assert!(!has_data(), "something stays");
    assert_no_journal(&lab.backup_path());
    lab.configure(&[]);
    assert_eq!(lab.run_well(&vm).level(), "copy");
}

#[test]
fn times_that_a_copy_of_the_chain_lost_are_said_until_they_are_put_in_order() {
    let lab = Lab::configured("lost_times");
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    back_up(&lab, &vm, &mut history);
    let dir = lab.chain_dir(&vm);
    let now = std::time::SystemTime::now();
    for entry in fs::read_dir(&dir).expect("a chain").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "data") {
            File::open(path).and_then(|file| file.set_modified(now)).expect("ours");
        }
    }
    let repair = format!("vmstream doctor --repair-times '{}'", dir.display());
    let ended = back_up(&lab, &vm, &mut history);
    assert!(
        ended.warnings().contains("not in order") && ended.warnings().contains(&repair),
        "{}",
        ended.warnings()
    );
    must(Command::new("sh").arg("-c").arg(repair.replacen(
        "vmstream",
        &program("vmstream").display().to_string(),
        1,
    )));
    let ended = back_up(&lab, &vm, &mut history);
    assert_eq!(ended.warnings(), "");
    history.assert_restorable(&lab, &dir);
}
