//! Other programs and other runs at the same VM: what is theirs is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use lab::{DiskSpec, History, Lab, Vm, must, text};
use random::Random;
use vmbackup::engine::fail_point::FailPoint;
use vmhost::libvirt::{Host, JobSeen};

use super::set_up::{
    MIB, STORAGE, VM, abort_job, assert_failed, assert_no_journal, back_up, begin_other_job, change, small_vm,
};

/// Exit codes that people and scripts rely on.
const LOCKED: i32 = 3;

#[test]
fn a_vm_without_a_job_is_seen_to_have_none() {
    let lab = Lab::configured("no_job");
    let vm = lab.paused_vm("idle", &[DiskSpec::new("vda", MIB)]);
    let host = Host::connect("qemu:///system").expect("the lab's daemon answers");
    let domain = host.domain(vm.name()).expect("it is defined");
    assert_eq!(domain.job_seen().expect("libvirt answers"), JobSeen::None);
}

#[test]
fn a_vm_whose_folder_is_a_link_is_refused_before_anything_is_owned() {
    let lab = Lab::configured("linked_folder");
    let vm = lab.paused_vm("web", &[DiskSpec::new("vda", 4 * MIB)]);
    let elsewhere = lab.new_dir("disk2");
    let folder = lab.backup_path().join(vm.name());
    std::os::unix::fs::symlink(&elsewhere, &folder).expect("a link");
    // A run that comes to its first step is killed there.
    let ended = lab.run_killed_at(&vm, FailPoint::JournalWritten).wait();
    assert_eq!(ended.status.code(), Some(STORAGE), "{ended:#?}");
    for words in ["is a link to", "mount --bind", folder.to_str().expect("text")] {
        assert!(ended.error().contains(words), "{words:?} is not in {:?}", ended.error());
    }
    assert_eq!(fs::read_dir(&elsewhere).expect("it is there").count(), 0);
    assert_no_journal(&lab.backup_path());
    fs::remove_file(&folder).expect("ours");
    assert_eq!(lab.run_well(&vm).level(), "full");
}

#[test]
fn a_vms_folder_may_be_where_a_disk_is_mounted_and_nothing_below_it() {
    let lab = Lab::configured("mounted_folder");
    let vm = lab.paused_vm("web", &[DiskSpec::new("vda", 4 * MIB)]);
    let mount = |disk: &Path, at: &Path| {
        fs::create_dir_all(at).expect("a folder");
        must(Command::new("mount").arg("--bind").arg(disk).arg(at));
    };
    let disk = lab.small_file_system("disk2", 32);
    let folder = lab.backup_path().join(vm.name());
    mount(disk.path(), &folder);
    assert_eq!(lab.run_well(&vm).level(), "full");
    let inner = lab.chain_dir(&vm).join("checkpoints");
    mount(&lab.new_dir("disk3"), &inner);
    // A run that comes to its first step is killed there.
    let ended = lab.run_killed_at(&vm, FailPoint::JournalWritten).wait();
    assert_eq!(ended.status.code(), Some(STORAGE), "{ended:#?}");
    for words in [
        "A file system is mounted at",
        inner.to_str().expect("text"),
        "Unmount it",
        folder.to_str().expect("text"),
    ] {
        assert!(ended.error().contains(words), "{words:?} is not in {:?}", ended.error());
    }
    assert_no_journal(&lab.backup_path());
    must(Command::new("umount").arg(&inner));
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
    must(Command::new("umount").arg(&folder));
}

#[test]
fn archives_elsewhere_stop_what_needs_them_before_anything_is_read() {
    let lab = Lab::configured("archives_elsewhere");
    let vm = lab.paused_vm("web", &[DiskSpec::new("vda", 4 * MIB)]);
    let mut points = vec![];
    let mut take = |level: &str| {
        assert_eq!(lab.run_well(&vm).level(), level);
        points.push(lab::Point::of(&lab, &vm, &format!("virtnbdbackup.{}", points.len())));
    };
    take("full");
    let (set, other) = (lab.chain_dir(&vm), lab.small_file_system("disk2", 32));
    let archives = set.join(".archives");
    fs::create_dir(&archives).expect("the lab has room");
    must(Command::new("mount").arg("--bind").arg(other.path()).arg(&archives));
    take("incremental 1");
    vm.delete_checkpoints();
    let refused = |words: &str| {
        // A run that comes to its first step is killed there.
        let ended = lab.run_killed_at(&vm, FailPoint::JournalWritten).wait();
        assert_eq!(ended.status.code(), Some(STORAGE), "{ended:#?}");
        for words in [words, archives.to_str().expect("text"), set.to_str().expect("text")] {
            assert!(ended.error().contains(words), "{words:?} is not in {:?}", ended.error());
        }
        assert!(text(&lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()])).contains(words));
        assert_no_journal(&lab.backup_path());
        assert_eq!(fs::read_dir(other.path()).expect("it is there").count(), 0);
    };
    refused("on another file system");
    must(Command::new("umount").arg(&archives));
    fs::remove_dir(&archives).expect("it is empty");
    std::os::unix::fs::symlink(other.path(), &archives).expect("a link");
    refused("a link to");
    lab.assert_points(&set, &points);
    fs::remove_file(&archives).expect("ours");
    let full = lab.run_well(&vm);
    assert_eq!(full.level(), "full");
    lab.assert_points(Path::new(&full.report("archived_to")), &points);
}

#[test]
fn a_job_of_somebody_else_is_left_alone() {
    let lab = Lab::configured("other_job");
    let mut random = Random::from_environment("LAB_SEED");
    // QEMU's user makes the job's files. Mounted before QEMU starts: it has a view of its own.
    let open = lab.small_file_system("open", 16);
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    change(&vm, &mut random);
    let job = begin_other_job(&lab, &vm, open.path(), &open.path().join("other.sock"));
    // A run that comes so far as to hold the guest is killed there.
    let ended = lab.run_killed_at(&vm, FailPoint::Held).wait();
    assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
    assert!(ended.error().contains("already has a job"), "{}", ended.error());
    assert_eq!((vm.state().as_str(), vm.backup_job()), ("running", Some(job)), "the job goes on");
    assert_eq!(vm.checkpoints(), ["virtnbdbackup.0"]);
    assert_no_journal(&lab.backup_path());
    abort_job(&vm);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_job_of_somebody_else_that_comes_in_place_of_ours_is_left_alone() {
    let lab = Lab::configured("job_in_place");
    let mut random = Random::from_environment("LAB_SEED");
    let open = lab.small_file_system("open", 16);
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    for is_killed in [false, true] {
        change(&vm, &mut random);
        // The next thing that the run, or its guard, would do is end its job.
        let run = lab.run_held_at(&vm, FailPoint::Copied);
        abort_job(&vm);
        let job = begin_other_job(&lab, &vm, open.path(), &open.path().join("other.sock"));
        let is_there = || assert_eq!(vm.backup_job().as_ref(), Some(&job), "killed: {is_killed}");
        if is_killed {
            let pid = run.pid();
            let guards = lab::children_of(pid);
            run.signal(Signal::KILL);
            drop(run);
            let began = Instant::now();
            while guards.iter().any(|(guard, ..)| lab::is_alive(*guard)) {
                assert!(began.elapsed() < Duration::from_secs(90), "the guard does not end");
                is_there();
                std::thread::sleep(Duration::from_millis(100));
            }
        } else {
            run.release();
            let ended = run.wait();
            assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
            assert!(ended.error().contains("its backup job was gone at the end"), "{}", ended.error());
        }
        is_there();
        assert_eq!(vm.state(), "running");
        abort_job(&vm);
        back_up(&lab, &vm, &mut history);
    }
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_job_that_somebody_ends_in_mid_run_costs_only_that_run() {
    let lab = Lab::configured("ended_job");
    let mut random = Random::from_environment("LAB_SEED");
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    change(&vm, &mut random);
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    abort_job(&vm);
    run.release();
    assert_failed(
        &run.wait(),
        VM,
        "somebody ended it (virsh domjobabort)",
        &history,
        &vm,
        &lab.chain_dir(&vm),
    );
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn of_two_runs_at_once_the_second_is_refused() {
    let lab = Lab::configured("two_runs");
    let mut random = Random::from_environment("LAB_SEED");
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    change(&vm, &mut random);
    let first = lab.run_held_at(&vm, FailPoint::Copying);
    let pid = first.pid().as_raw_nonzero();
    let locks = [lab.backup_path().join("_state/vmbackup.pid"), vm_lock(&lab, &vm)];
    for lock in &locks {
        assert_eq!(fs::read_to_string(lock).expect("a lock file"), format!("{pid}\n"), "{lock:?}");
    }
    let refused = format!("Error: Another vmbackup session is already running (PID {pid})");
    for arguments in [&["--run"][..], &["--run", "--dry-run"]] {
        let second = lab.vmbackup(arguments);
        assert_eq!(second.status.code(), Some(LOCKED), "{}", text(&second));
        assert!(text(&second).contains(&refused), "{}", text(&second));
    }
    history.note(&lab, &vm);
    first.release();
    let first = first.wait();
    assert!(first.status.success(), "{first:#?}");
    for lock in &locks {
        assert!(!lock.exists(), "{lock:?} is given back");
    }
    change(&vm, &mut random);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

fn vm_lock(lab: &Lab, vm: &Vm) -> PathBuf {
    lab.backup_path().join(format!("_state/locks/vmbackup-{}.lock", vm.name()))
}

/// A process that lives for as long as the value, under a name of its choice.
struct Named(Child);

impl Named {
    fn new(name: &str) -> Self {
        let script = format!("exec -a {name} sleep 120");
        let child = Command::new("bash").args(["-c", &script]).spawn().expect("bash can be started");
        let named = Self(child);
        let line = || fs::read_to_string(format!("/proc/{}/cmdline", named.0.id())).unwrap_or_default();
        while !line().starts_with(name) {
            std::thread::sleep(Duration::from_millis(1));
        }
        named
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_lock_files_of_the_bash_programs_are_honoured_while_they_live() {
    let lab = Lab::configured("bash_locks");
    let mut random = Random::from_environment("LAB_SEED");
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let session = lab.backup_path().join("_state/vmbackup.pid");

    let bash = Named::new("vmbackup.sh");
    let pid = format!("{}\n", bash.0.id());
    fs::write(&session, &pid).expect("a lock file");
    let ended = lab.run(&vm);
    assert_eq!(ended.status.code(), Some(LOCKED), "{ended:#?}");
    assert!(ended.log.contains(&format!("already running (PID {})", bash.0.id())), "{ended:#?}");
    assert_eq!(fs::read_to_string(&session).expect("it stays"), pid);
    drop(bash);
    change(&vm, &mut random);
    back_up(&lab, &vm, &mut history);

    let restore = Named::new("vmrestore");
    fs::write(vm_lock(&lab, &vm), format!("{}\n", restore.0.id())).expect("a lock file");
    let ended = lab.run(&vm);
    assert_eq!(ended.status.code(), Some(LOCKED), "{ended:#?}");
    assert!(ended.error().contains(&format!("PID {}", restore.0.id())), "{}", ended.error());
    drop(restore);
    change(&vm, &mut random);
    back_up(&lab, &vm, &mut history);
    assert!(!session.exists() && !vm_lock(&lab, &vm).exists(), "locks are given back");
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn two_instances_at_once_do_each_other_no_harm() {
    let lab = Lab::configured("two_instances");
    let mut random = Random::from_environment("LAB_SEED");
    let (ours, theirs) = (small_vm(&lab), lab.paused_vm("other", &[DiskSpec::new("vda", 2 * MIB)]));
    let mut history = History::default();
    back_up(&lab, &ours, &mut history);
    change(&ours, &mut random);
    // The same configuration but for the backup path.
    let second_path = lab.new_dir("second-backups");
    let file = lab.config_dir().join("default/vmbackup.conf");
    let conf = fs::read_to_string(&file).expect("the configuration");
    let conf = conf.replace(lab.backup_path().to_str().expect("text"), second_path.to_str().expect("text"));
    fs::create_dir_all(lab.config_dir().join("second")).expect("an instance");
    fs::write(lab.config_dir().join("second/vmbackup.conf"), conf).expect("its configuration");
    let second = |vm: &Vm| {
        let mut command = lab.run_command(&[vm]);
        command.args(["--config-instance", "second"]);
        lab.begin_run(command).wait()
    };
    let first = lab.run_held_at(&ours, FailPoint::Copying);
    let other = second(&theirs);
    assert!(other.status.success(), "another VM is backed up meanwhile: {other:#?}");
    let same = second(&ours);
    assert_eq!(same.status.code(), Some(VM), "{same:#?}");
    history.note(&lab, &ours);
    first.release();
    let first = first.wait();
    assert!(first.status.success(), "the first run is not disturbed: {first:#?}");
    change(&ours, &mut random);
    back_up(&lab, &ours, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&ours));
    assert!(!second_path.join("_state/vmbackup.pid").exists());
}
