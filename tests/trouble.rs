//! What goes wrong around a backup: full file systems, VMs that stop or start, other programs at the same VM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use lab::{DiskOp, DiskSpec, Ended, History, Lab, Random, Run, Version, Vm, VmSpec, text, virsh};
use vmbackup::engine::fail_point::{FailPoint, PassedBy};

const MIB: u64 = 1 << 20;

/// Exit codes that people and scripts rely on.
const LOCKED: i32 = 3;
const STORAGE: i32 = 4;
const VM: i32 = 5;

/// Noise: content that no compression makes smaller.
fn noise(random: &mut Random, bytes: u64) -> Vec<u8> {
    (0..bytes / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect()
}

fn noise_file(lab: &Lab, random: &mut Random, bytes: u64) -> PathBuf {
    let file = lab.path().join("noise.raw");
    fs::write(&file, noise(random, bytes)).expect("the lab has room");
    file
}

/// A running VM of one disk full of noise.
fn noisy_vm(lab: &Lab, random: &mut Random, bytes: u64) -> Vm {
    let content = noise_file(lab, random, bytes);
    let vm = lab.paused_vm("noisy", &[DiskSpec::new("vda", bytes).content(&content)]);
    vm.resume();
    vm
}

/// A running VM of two disks with something in them.
fn small_vm(lab: &Lab) -> Vm {
    let disks = [DiskSpec::new("vda", 8 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)];
    let vm = lab.paused_vm("small", &disks);
    vm.write("vda", MIB, 2 * MIB, 0x11).expect("a write");
    vm.write("vdb", 3 * MIB, 512, 0x22).expect("a write");
    vm.resume();
    vm
}

/// Writes, zeroes and discards on every disk.
fn change(vm: &Vm, random: &mut Random) {
    write_and_zero(vm, random);
    for target in vm.targets() {
        let (offset, len) = random.range(vm.shadow(target).size_bytes(), 512 << 10);
        vm.run(target, &[DiskOp::Discard { offset, len }, DiskOp::Flush]).expect("the guest can discard");
    }
}

/// The same without discards: while a job runs, QEMU drops those, and the disk keeps what it holds.
fn write_and_zero(vm: &Vm, random: &mut Random) {
    for target in vm.targets() {
        let size = vm.shadow(target).size_bytes();
        let mut ops = Vec::new();
        for _ in 0..6 {
            let (offset, len) = random.range(size, 256 << 10);
            ops.push(match random.below(5) {
                0 => DiskOp::WriteZeroes { offset, len, unmap: true },
                1 => DiskOp::WriteZeroes { offset, len, unmap: false },
                _ => DiskOp::Write { offset, len, pattern: 1 + random.below(255) as u8 },
            });
        }
        ops.push(DiskOp::Flush);
        vm.run(target, &ops).expect("the guest can write");
    }
}

/// Backs up, expects the next increment (or the first full), and notes what it must hold.
#[track_caller]
fn back_up(lab: &Lab, vm: &Vm, history: &mut History) -> Ended {
    let ended = lab.run_well(vm);
    let want = if history.is_empty() { "full".to_owned() } else { format!("incremental {}", history.len()) };
    assert_eq!(ended.level(), want, "{ended:#?}");
    history.note(lab, vm);
    ended
}

/// The run failed with this code, said these words, and left nothing but the chain as it was.
#[track_caller]
fn assert_failed(ended: &Ended, code: i32, words: &str, history: &History, vm: &Vm, chain_dir: &Path) {
    assert_eq!(ended.status.code(), Some(code), "{ended:#?}");
    assert!(ended.error().contains(words), "{words:?} is not in {ended:#?}");
    if vm.state() != "shut off" {
        vm.wait_until_free(Duration::from_secs(2));
    }
    assert_eq!(vm.checkpoints().len(), history.len(), "{:?}", vm.checkpoints());
    let entries = fs::read_dir(chain_dir).into_iter().flatten().flatten();
    let partial: Vec<_> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "partial")).collect();
    assert!(partial.is_empty(), "{partial:?}");
}

#[track_caller]
fn assert_no_journal(backup_path: &Path) {
    let entries = fs::read_dir(backup_path.join("_state/journal")).into_iter().flatten().flatten();
    let left: Vec<_> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_none_or(|e| e != "lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_vm_whose_folder_is_a_link_is_refused_before_anything_is_owned() {
    let lab = Lab::new("linked_folder");
    lab.configure(&[]);
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
fn a_backup_that_cannot_fit_is_refused_before_the_guest_is_touched() {
    let lab = Lab::new("forecast");
    let mut random = Random::from_environment();
    let vm = noisy_vm(&lab, &mut random, 16 * MIB);
    let small = lab.small_file_system("small", 12);
    lab.configure(&[("BACKUP_PATH", small.text())]);
    // A run that comes to its first step is killed there.
    let ended = lab.run_killed_at(&vm, FailPoint::JournalWritten).wait();
    assert_eq!(ended.status.code(), Some(STORAGE), "{ended:#?}");
    for words in ["Too little space in", "needed", "free", "TARGET_RESERVE"] {
        assert!(ended.error().contains(words), "{words:?} is not in {:?}", ended.error());
    }
    assert_eq!(vm.checkpoints(), Vec::<String>::new());
    // Enough for the backup, not for the reserve.
    let large = lab.small_file_system("large", 64);
    let reserve =
        [("BACKUP_PATH", large.text()), ("TARGET_RESERVE_PERCENT", "90"), ("TARGET_RESERVE_GIB", "10")];
    lab.configure(&reserve);
    let ended = lab.run_killed_at(&vm, FailPoint::JournalWritten).wait();
    assert_eq!(ended.status.code(), Some(STORAGE), "{ended:#?}");
    lab.configure(&[("BACKUP_PATH", large.text())]);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    // The forecast of an increment rests on what changed, not on the whole disk.
    large.fill();
    large.empty();
    let filler = large.path().join("most");
    fs::write(&filler, vec![0; 36 << 20]).expect("room");
    vm.write_bytes("vda", MIB, &noise(&mut random, MIB)).expect("a write");
    back_up(&lab, &vm, &mut history);
    vm.write_bytes("vda", 0, &noise(&mut random, 16 * MIB)).expect("a write");
    let ended = lab.run(&vm);
    let chain_dir = lab::chain_dir_below(large.path(), &vm);
    assert_failed(&ended, STORAGE, "Too little space", &history, &vm, &chain_dir);
    history.assert_restorable(&lab, &chain_dir);
}

#[test]
fn a_target_that_fills_up_in_mid_run_costs_only_that_run() {
    let lab = Lab::new("target_full");
    let mut random = Random::from_environment();
    let vm = noisy_vm(&lab, &mut random, 4 * MIB);
    let target = lab.small_file_system("target", 64);
    lab.configure(&[("BACKUP_PATH", target.text())]);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let chain_dir = lab::chain_dir_below(target.path(), &vm);
    let places = FailPoint::passed_by_any(&[PassedBy::Job]);
    for place in places.filter(|place| *place <= FailPoint::FilesWritten) {
        vm.write_bytes("vda", MIB, &noise(&mut random, MIB)).expect("a write");
        let run = lab.run_held_at(&vm, place);
        target.fill();
        run.release();
        let ended = run.wait();
        println!("full at {place}: {}", ended.error());
        assert_failed(&ended, STORAGE, "No space left on device", &history, &vm, &chain_dir);
        assert_no_journal(target.path());
        history.assert_restorable(&lab, &chain_dir);
        target.empty();
        back_up(&lab, &vm, &mut history);
    }
    history.assert_restorable(&lab, &chain_dir);
    history.assert_virtnbdrestore(&lab, Version::Distribution, &chain_dir);
}

#[test]
fn a_scratch_directory_that_fills_up_ends_the_backup_and_not_the_guest() {
    let lab = Lab::new("scratch_full");
    let mut random = Random::from_environment();
    let bytes = 320 * MIB;
    let scratch = lab.small_file_system("little-scratch", 64);
    let quick = [("VIRTNBD_SCRATCH_DIR", scratch.text())];
    lab.configure(&quick);
    let vm = noisy_vm(&lab, &mut random, bytes);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let chain_dir = lab.chain_dir(&vm);
    vm.write_bytes("vda", 0, &noise(&mut random, bytes)).expect("a write");
    // The slowest level: time enough for the guest to overwrite more than the scratch directory can hold.
    lab.configure(&[quick[0], ("VIRTNBD_COMPRESS_LEVEL", "16")]);
    let mut run = lab.begin_run(lab.run_command(&[&vm]));
    wait_for_partial(&run, &chain_dir, "vda.inc.virtnbdbackup.1.data.partial", MIB);
    let mut written = 0;
    while written < bytes && run.is_alive() {
        vm.write("vda", written, 4 * MIB, 0x77).expect("the guest's writes never fail");
        written += 4 * MIB;
    }
    let ended = run.wait();
    println!("the guest wrote {} MiB: {}", written / MIB, ended.error());
    assert_failed(&ended, STORAGE, "scratch directory", &history, &vm, &chain_dir);
    let left: Vec<_> = fs::read_dir(scratch.path()).expect("a folder").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    history.assert_restorable(&lab, &chain_dir);
    lab.configure(&quick);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &chain_dir);
    // Too full from the start: said before the guest is touched.
    scratch.fill();
    let ended = lab.run_killed_at(&vm, FailPoint::JournalWritten).wait();
    assert_eq!(ended.status.code(), Some(STORAGE), "{ended:#?}");
    scratch.empty();
}

/// Waits until a run has written this much of a stream.
#[track_caller]
fn wait_for_partial(run: &Run, dir: &Path, name: &str, bytes: u64) {
    let began = Instant::now();
    while fs::metadata(dir.join(name)).map_or(0, |meta| meta.len()) < bytes {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", run.log());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_qemu_costs_the_bitmap_and_nothing_else() {
    let lab = Lab::new("qemu_killed");
    lab.configure(&[]);
    let mut random = Random::from_environment();
    let vm = small_vm(&lab);
    for (number, place) in [FailPoint::Copying, FailPoint::Begun, FailPoint::Copied, FailPoint::FilesWritten]
        .into_iter()
        .enumerate()
    {
        let mut history = History::default();
        let ended = lab.run_well(&vm);
        assert_eq!(ended.level(), "full", "{ended:#?}");
        if number > 0 {
            assert!(ended.why().contains("dirty bitmap is lost"), "{ended:#?}");
        }
        history.note(&lab, &vm);
        change(&vm, &mut random);
        back_up(&lab, &vm, &mut history);
        change(&vm, &mut random);
        let chain_dir = lab.chain_dir(&vm);
        let at_kill = History::disks(&lab, &vm);
        let run = lab.run_held_at(&vm, place);
        vm.kill_qemu();
        run.release();
        let ended = run.wait();
        println!("QEMU killed at {place}: {}", ended.error());
        if place == FailPoint::FilesWritten {
            // Everything had been read: the point is complete.
            assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
            history.push(at_kill);
        } else {
            assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
            assert_no_journal(&lab.backup_path());
        }
        history.assert_restorable(&lab, &chain_dir);
        vm.start();
        change(&vm, &mut random);
        let ended = lab.run_well(&vm);
        assert_eq!(ended.level(), "full", "{ended:#?}");
        assert!(ended.why().contains("dirty bitmap is lost"), "the reason is said: {}", ended.why());
        let archive = PathBuf::from(ended.report("archived_to"));
        history.assert_restorable(&lab, &archive);
        let mut history = History::default();
        history.note(&lab, &vm);
        change(&vm, &mut random);
        back_up(&lab, &vm, &mut history);
        history.assert_restorable(&lab, &chain_dir);
        vm.kill_qemu();
        vm.start();
    }
}

#[test]
fn a_guest_that_writes_meanwhile_sees_no_error_and_is_saved_as_it_was() {
    let lab = Lab::new("writes_meanwhile");
    lab.configure(&[]);
    let mut random = Random::from_environment();
    let vm = small_vm(&lab);
    let mut history = History::default();
    for _ in 0..6 {
        let at_snapshot = History::disks(&lab, &vm);
        let run = lab.run_held_at(&vm, FailPoint::Copying);
        assert_eq!(vm.state(), "running", "the guest is held for the snapshot only");
        for _ in 0..3 {
            write_and_zero(&vm, &mut random);
        }
        run.release();
        let ended = run.wait();
        assert!(ended.status.success(), "{ended:#?}");
        history.push(at_snapshot);
    }
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
    history.assert_virtnbdrestore(&lab, Version::Sid, &lab.chain_dir(&vm));
}

#[test]
fn a_vm_that_is_switched_off_in_mid_run_keeps_a_valid_chain() {
    let lab = Lab::new("switched_off");
    lab.configure(&[]);
    let mut random = Random::from_environment();
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let chain_dir = lab.chain_dir(&vm);
    for place in [
        FailPoint::Released,
        FailPoint::Copying,
        FailPoint::Copied,
        FailPoint::JobEnded,
        FailPoint::JournalWritten,
    ] {
        change(&vm, &mut random);
        let run = lab.run_held_at(&vm, place);
        vm.destroy();
        let at_end = History::disks(&lab, &vm);
        run.release();
        let ended = run.wait();
        println!("switched off at {place}: {} {}", ended.level(), ended.error());
        assert_no_journal(&lab.backup_path());
        if ended.status.success() {
            history.push(at_end);
        } else {
            assert_eq!(
                place,
                FailPoint::JournalWritten,
                "what was begun is finished from the disks: {ended:#?}"
            );
            assert_failed(&ended, VM, "", &history, &vm, &chain_dir);
        }
        history.assert_restorable(&lab, &chain_dir);
        vm.start();
        change(&vm, &mut random);
        back_up(&lab, &vm, &mut history);
        history.assert_restorable(&lab, &chain_dir);
    }
    // Off, and off for the next run too: a copy, with the chain in the archive.
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    vm.destroy();
    run.release();
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
    history.note(&lab, &vm);
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "copy", "{ended:#?}");
    history.assert_restorable(&lab, Path::new(&ended.report("archived_to")));
    for target in vm.targets() {
        let raw = lab::extract(&lab, &chain_dir, target, None);
        vm.shadow(target).equals(&raw).unwrap_or_else(|difference| panic!("{target}: {difference}"));
    }
}

#[test]
fn a_vm_that_restarts_in_mid_run_is_not_mixed_up() {
    let lab = Lab::new("restarts");
    lab.configure(&[]);
    let mut random = Random::from_environment();
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let chain_dir = lab.chain_dir(&vm);
    for place in [FailPoint::Copying, FailPoint::Copied] {
        change(&vm, &mut random);
        let run = lab.run_held_at(&vm, place);
        vm.destroy();
        vm.start();
        change(&vm, &mut random);
        run.release();
        let ended = run.wait();
        println!("restarted at {place}: {}", ended.error());
        assert_failed(&ended, VM, "", &history, &vm, &chain_dir);
        assert_no_journal(&lab.backup_path());
        history.assert_restorable(&lab, &chain_dir);
        back_up(&lab, &vm, &mut history);
        history.assert_restorable(&lab, &chain_dir);
    }
}

#[test]
fn a_vm_that_is_started_during_its_copy_starts_and_the_copy_is_discarded() {
    let lab = Lab::new("started");
    lab.configure(&[("VIRTNBD_COMPRESS_LEVEL", "16")]);
    let mut random = Random::from_environment();
    let bytes = 256 * MIB;
    let content = noise_file(&lab, &mut random, bytes);
    let vm = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", bytes).content(&content)));
    let discarded = |ended: &Ended| {
        assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
        let said = ended.error();
        assert!(said.contains("started") || said.contains("were written while"), "{said}");
        assert_eq!(vm.state(), "running");
        let left: Vec<_> = fs::read_dir(lab.chain_dir(&vm)).expect("a folder").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_no_journal(&lab.backup_path());
    };
    let run = lab.begin_run(lab.run_command(&[&vm]));
    let began = Instant::now();
    while !lab.backup_path().join(vm.name()).exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", run.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    wait_for_partial(&run, &lab.chain_dir(&vm), "vda.copy.data.partial", MIB);
    vm.start();
    vm.write("vda", 0, 16 * MIB, 0x99).expect("the guest can write");
    discarded(&run.wait());
    for place in [FailPoint::Copying, FailPoint::Copied] {
        vm.destroy();
        let run = lab.run_held_at(&vm, place);
        vm.start();
        run.release();
        discarded(&run.wait());
    }
    lab.configure(&[]);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_job_of_somebody_else_is_left_alone() {
    let lab = Lab::new("other_job");
    lab.configure(&[]);
    let mut random = Random::from_environment();
    // QEMU's user makes the job's files. Mounted before QEMU starts: it has a view of its own.
    let open = lab.small_file_system("open", 16);
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    change(&vm, &mut random);
    let xml = lab.path().join("job.xml");
    let (socket, scratch) = (open.path().join("other.sock"), open.path().join("other.scratch"));
    let disks = format!(
        "<disk name='vda' backup='yes' type='file'><scratch file='{}'/></disk><disk name='vdb' backup='no'/>",
        scratch.display()
    );
    let server = format!("<server transport='unix' socket='{}'/>", socket.display());
    fs::write(&xml, format!("<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>"))
        .expect("a file");
    let virsh = |arguments: &[&str]| {
        lab::must(Command::new("virsh").args(["-q", "-c", "qemu:///system"]).args(arguments));
    };
    virsh(&["backup-begin", vm.name(), xml.to_str().expect("text")]);
    let job = vm.backup_job().expect("the job has begun");
    // A run that comes so far as to hold the guest is killed there.
    let ended = lab.run_killed_at(&vm, FailPoint::Held).wait();
    assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
    assert!(ended.error().contains("already has a job"), "{}", ended.error());
    assert_eq!((vm.state().as_str(), vm.backup_job()), ("running", Some(job)), "the job goes on");
    assert_eq!(vm.checkpoints(), ["virtnbdbackup.0"]);
    assert_no_journal(&lab.backup_path());
    virsh(&["domjobabort", vm.name()]);
    back_up(&lab, &vm, &mut history);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_job_that_somebody_ends_in_mid_run_costs_only_that_run() {
    let lab = Lab::new("ended_job");
    lab.configure(&[]);
    let mut random = Random::from_environment();
    let vm = small_vm(&lab);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    change(&vm, &mut random);
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    virsh(&["domjobabort", vm.name()]);
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
    let lab = Lab::new("two_runs");
    lab.configure(&[]);
    let mut random = Random::from_environment();
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
    let lab = Lab::new("bash_locks");
    lab.configure(&[]);
    let mut random = Random::from_environment();
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
    let lab = Lab::new("two_instances");
    lab.configure(&[]);
    let mut random = Random::from_environment();
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

#[test]
fn a_paused_vm_stays_paused_also_when_its_run_is_killed() {
    let lab = Lab::new("stays_paused");
    lab.configure(&[]);
    let vm = lab.paused_vm("paused", &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    let ended = lab.run_well(&vm);
    assert_eq!((ended.report("method").as_str(), ended.stopped_ms()), ("already_paused", 0), "{ended:#?}");
    assert_eq!(vm.state(), "paused");
    for place in [FailPoint::Held, FailPoint::Begun, FailPoint::Copying] {
        lab.run_killed_at(&vm, place).wait();
        // Longer than a guard lives.
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!((vm.state().as_str(), vm.backup_job()), ("paused", None), "after {place}");
        let ended = lab.run_well(&vm);
        assert!(ended.level().starts_with("incremental"), "{ended:#?}");
        assert_eq!(vm.state(), "paused");
    }
}
