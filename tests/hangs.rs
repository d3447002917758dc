//! What hangs costs its own VM, and nobody else: images, targets, programs. The guest goes on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use lab::{
    DiskFormat, DiskOp, DiskSpec, FaultyFileSystem, History, Lab, LoopDevice, Op, Run, Stopped, Vm, VmSpec,
    must, text, virsh,
};
use vmbackup::engine::fail_point::{FailPoint, PassedBy};
use vmstream::in_use::{InUse, writer_of};

const MIB: u64 = 1 << 20;

/// A run that is asked to stop has ended after so long, whatever hangs.
const STOP_LIMIT: Duration = Duration::from_secs(75);

/// The same when only its log hangs: nothing waits for that but the last lines, for some seconds.
const LOG_STOP_LIMIT: Duration = Duration::from_secs(15);

/// A guest is free after so long, whatever hangs: FREEZE_TIMEOUT of these tests, and ten seconds.
const FREE_LIMIT: Duration = Duration::from_secs(15);

/// An image on a file system that may hang.
fn image_on(files: &FaultyFileSystem, name: &str) -> DiskSpec {
    let image = files.path().join(name);
    let size = (4 * MIB).to_string();
    must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg(size));
    DiskSpec::new("vda", 4 * MIB).made_file(&image)
}

#[track_caller]
fn wait_until(what: &str, run: &mut Run, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}\n{}", run.log());
        assert!(run.is_alive(), "{what}: the run ended\n{}", run.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processes that have this text in their command line, but for one that is dead already.
fn processes_with(text: &str) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir("/proc").expect("there are processes").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) && entry.file_name() != *std::process::id().to_string() {
            found.push(line);
        }
    }
    found
}

/// The guard starts a VM that is off, and serves the others meanwhile, however long libvirt takes for it.
#[test]
fn a_start_that_hangs_holds_up_no_other_vm() {
    let lab = Lab::new("start_hangs");
    lab.configure(&[("PARALLEL_VMS", "2"), ("OFFLINE_MODE", "incremental")]);
    let off = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let (hold, emulator) = (lab.path().join("hold-emulator"), lab.path().join("emulator"));
    let script = format!(
        "#!/bin/sh\nwhile [ -e {} ]; do sleep 0.1; done\nexec qemu-system-x86_64 \"$@\"\n",
        hold.display()
    );
    fs::write(&emulator, script)
        .and_then(|()| fs::set_permissions(&emulator, Permissions::from_mode(0o755)))
        .expect("a script");
    let xml = lab.path().join("off.xml");
    let with_it = format!("<emulator>{}</emulator>", emulator.display());
    let (before, after) =
        (off.xml(), off.xml().replace("<emulator>/usr/bin/qemu-system-x86_64</emulator>", &with_it));
    assert_ne!(before, after, "the VM's definition names its emulator");
    fs::write(&xml, after).expect("a definition");
    must(Command::new("virsh").args(["-q", "-c", "qemu:///system", "define"]).arg(&xml));
    // More than one: the last of them begins when the start has hung for a while.
    let well = ["well-1", "well-2", "well-3"].map(|name| lab.paused_vm(name, &[DiskSpec::new("vda", MIB)]));
    let level = |vm: &Vm| lab.run_well(vm).level();
    for vm in well.iter().chain([&off]) {
        assert_eq!(level(vm), "full");
    }
    off.run_while_off("vda", &[DiskOp::Write { offset: 0, len: 65536, pattern: 0x11 }]);
    for vm in &well {
        vm.write("vda", 0, 65536, 0x22).expect("a write");
    }
    fs::write(&hold, "").expect("a file");
    let mut run = lab.begin_run(lab.run_command(&[&off, &well[0], &well[1], &well[2]]));
    let is_starting = || !processes_with(&emulator.display().to_string()).is_empty();
    wait_until("the start", &mut run, Duration::from_secs(60), is_starting);
    let second = |vm: &Vm| lab.chain_dir(vm).join("vda.inc.virtnbdbackup.1.data").exists();
    wait_until("the other VMs", &mut run, Duration::from_secs(60), || well.iter().all(second));
    assert!(is_starting(), "the start has hung all the while");
    fs::remove_file(&hold).expect("it is there");
    let ended = run.wait_for(STOP_LIMIT);
    assert!(ended.status.success(), "{ended:#?}");
    assert!(second(&off), "{ended:#?}");
    assert_eq!(off.state(), "shut off");
}

#[test]
fn an_image_on_dead_storage_costs_its_own_vm() {
    let lab = Lab::new("dead_image");
    lab.configure(&[("PARALLEL_VMS", "2")]);
    let storage = lab.faulty_file_system("storage");
    let dead = lab.define(&VmSpec::new("dead").disk(image_on(&storage, "dead.qcow2")));
    let well = lab.define(&VmSpec::new("well").disk(DiskSpec::new("vda", MIB)));
    let hang = storage.hang(Op::Open, "dead.qcow2");
    let marker = lab.backup_path().join(well.name());
    let is_backed_up = |marker: &Path| {
        let periods = fs::read_dir(marker).into_iter().flatten().flatten();
        periods.map(|period| period.path().join("vmconfig.copy.xml")).any(|file| file.exists())
    };
    let mut run = lab.begin_run(lab.run_command(&[&dead, &well]));
    wait_until("the other VM", &mut run, Duration::from_secs(60), || is_backed_up(&marker));
    wait_until("the image", &mut run, Duration::from_secs(60), || storage.hanging() > 0);
    run.signal(Signal::TERM);
    let ended = run.wait_for(STOP_LIMIT);
    assert_eq!(ended.status.code(), Some(143), "{ended:#?}");
    // What hangs in the kernel is no session.
    let ended = lab.run_well(&well);
    assert_eq!(ended.level(), "skip", "{ended:#?}");
    drop(hang);
    let ended = lab.run_well(&dead);
    assert_eq!(ended.level(), "copy", "{ended:#?}");
    assert_eq!(processes_with("dead.qcow2"), Vec::<String>::new());
}

#[test]
fn a_backing_chain_that_leads_back_to_itself_is_told() {
    let lab = Lab::configured("loop");
    let dir = lab.new_dir("loop-images");
    let [one, two] = ["one.qcow2", "two.qcow2"].map(|name| dir.join(name));
    must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&one).arg("4M"));
    let backing = |file: &Path| ["-F", "qcow2", "-b", file.to_str().expect("text")].map(str::to_owned);
    must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).args(backing(&one)).arg(&two));
    must(Command::new("qemu-img").args(["rebase", "-u", "-f", "qcow2"]).args(backing(&two)).arg(&one));
    let vm = lab.define(&VmSpec::new("loop").disk(DiskSpec::new("vda", 4 * MIB).made_file(&two)));
    let ended = lab.run(&vm);
    assert!(!ended.status.success(), "{ended:#?}");
    assert!(ended.error().contains("infinite loop"), "{ended:#?}");
    assert_eq!(processes_with("two.qcow2"), Vec::<String>::new());
}

#[test]
fn a_write_that_does_not_come_back_ends_the_job() {
    let lab = Lab::new("hung_write");
    let target = lab.faulty_file_system("target");
    lab.configure(&[("BACKUP_PATH", target.text()), ("BACKUP_STALL_THRESHOLD", "3")]);
    let vm = lab.paused_vm("hung", &[DiskSpec::new("vda", 8 * MIB), DiskSpec::new("vdb", 8 * MIB)]);
    vm.write("vda", 0, 8 * MIB, 0x11).expect("a write");
    vm.write("vdb", 0, 8 * MIB, 0x22).expect("a write");
    vm.resume();
    let hang = target.hang(Op::Write, "vda.full.data.partial");
    let mut run = lab.begin_run(lab.run_command(&[&vm]));
    wait_until("the write", &mut run, Duration::from_secs(60), || target.hanging() > 0);
    let took = vm.wait_until_free(FREE_LIMIT);
    println!("free {took:?} after the write hung");
    assert!(run.is_alive(), "{}", run.log());
    drop(hang);
    let ended = run.wait();
    assert!(ended.error().contains("Disk vda: a write to "), "{ended:#?}");
    assert!(ended.error().contains("has not come back for 3 s"), "{ended:#?}");
    let mut history = History::default();
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "full", "{ended:#?}");
    history.note(&lab, &vm);
    history.assert_restorable(&lab, &lab::chain_dir_below(target.path(), &vm));
}

#[test]
fn a_scratch_directory_that_hangs_is_seen_before_the_guest_is_held() {
    let lab = Lab::new("hung_scratch");
    let scratch = lab.faulty_file_system("scratch-fs");
    lab.configure(&[("VIRTNBD_SCRATCH_DIR", scratch.text())]);
    let vm = lab.running_vm("scratch", &[DiskSpec::new("vda", MIB)]);
    let mut run = lab.run_held_at(&vm, FailPoint::CheckpointsDropped);
    let hang = scratch.hang(Op::Create, "");
    run.release();
    let began = Instant::now();
    while run.is_alive() {
        assert_eq!(vm.state(), "running", "{}", run.log());
        assert!(began.elapsed() < STOP_LIMIT, "{}", run.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = run.wait();
    assert_eq!(ended.status.code(), Some(4), "{ended:#?}");
    let said = ended.error();
    assert!(said.contains("could not be made there in 15 s") && said.contains("was not held"), "{said}");
    assert!(vm.checkpoints().is_empty(), "{ended:#?}");
    drop(hang);
    lab::wait_for_guard_below(&lab.backup_path(), &vm);
    assert_eq!(lab.run_well(&vm).level(), "full");
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0, "nothing is left there");
}

#[test]
fn a_scratch_directory_that_is_dead_from_the_start_costs_only_who_needs_it() {
    let lab = Lab::new("dead_scratch");
    let scratch = lab.faulty_file_system("scratch-fs");
    lab.configure(&[("VIRTNBD_SCRATCH_DIR", scratch.text()), ("PARALLEL_VMS", "1")]);
    let on = lab.running_vm("on", &[DiskSpec::new("vda", MIB)]);
    let off = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let hangs = EVERYTHING.map(|op| scratch.hang(op, ""));
    let ended = lab.begin_run(lab.run_command(&[&on, &off])).wait_for(STOP_LIMIT * 2);
    assert_eq!(ended.status.code(), Some(4), "{ended:#?}");
    let rows = "SELECT status FROM vm_backups ORDER BY vm_name DESC";
    assert_eq!(lab.ask(rows), ["failed", "success"], "{ended:#?}");
    let said = lab.ask("SELECT error_message FROM vm_backups WHERE status = 'failed'").join("");
    assert!(said.contains(scratch.text()) && said.contains("15 s"), "{said}");
    assert_eq!(on.state(), "running");

    // A signal ends the run meanwhile.
    let mut run = lab.begin_run(lab.run_command(&[&on]));
    let pid = run.pid();
    let looks = || lab::children_of(pid).iter().any(|(.., line)| line.contains("--internal-answers"));
    wait_until("the look at the scratch directory", &mut run, STOP_LIMIT, looks);
    run.signal(Signal::TERM);
    let ended = run.wait_for(LOG_STOP_LIMIT);
    assert_eq!(ended.status.code(), Some(143), "{ended:#?}");
    drop(hangs);
    lab::wait_for_guard_below(&lab.backup_path(), &on);
    assert_eq!(lab.run_well(&on).level(), "full");
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0, "nothing is left there");
}

#[test]
fn a_check_of_storage_that_is_dead_says_so_and_ends() {
    let lab = Lab::new("dead_checked");
    let dead = lab.faulty_file_system("dead-fs");
    let hangs = EVERYTHING.map(|op| dead.hang(op, ""));
    for key in ["VIRTNBD_SCRATCH_DIR", "BACKUP_PATH"] {
        lab.configure(&[(key, dead.text())]);
        let checked = lab.vmbackup(&["--check"]);
        let said = text(&checked);
        assert_eq!(checked.status.code(), Some(4), "{said}");
        assert!(said.contains(&format!("BAD   {key}: {} cannot be looked at", dead.text())), "{said}");
    }
    drop(hangs);
}

#[test]
fn a_disk_that_cannot_be_read_is_told_as_that() {
    let lab = Lab::configured("bad_disk");
    let storage = lab.faulty_file_system("storage");
    let vm = lab.define(&VmSpec::new("bad").disk(image_on(&storage, "bad.qcow2")));
    vm.start_paused();
    vm.write("vda", 0, 4 * MIB, 0x33).expect("a write");
    vm.resume();
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    storage.fail(Op::Read, "bad.qcow2", Errno::IO);
    run.release();
    let ended = run.wait();
    storage.heal();
    assert!(!ended.status.success(), "{ended:#?}");
    let said = ended.error();
    assert!(said.contains("Cannot read disk vda") && said.contains("bytes at "), "{said}");
    assert!(!said.contains("somebody"), "{said}");
    vm.wait_until_free(FREE_LIMIT);
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "full", "{ended:#?}");
}

#[test]
fn a_stream_that_cannot_be_read_now_costs_no_full() {
    let lab = Lab::new("unread_stream");
    let target = lab.faulty_file_system("target");
    lab.configure(&[("BACKUP_PATH", target.text())]);
    let vm = lab.paused_vm("unread", &[DiskSpec::new("vda", MIB)]);
    vm.write("vda", 0, 64 << 10, 0x44).expect("a write");
    vm.resume();
    assert_eq!(lab.run_well(&vm).level(), "full");
    for (number, file) in [(1, "vda.full.data"), (2, ".cpt")] {
        let file = if file == ".cpt" { format!("{}.cpt", vm.name()) } else { file.to_owned() };
        target.fail_once(Op::Read, &file, 0, Errno::IO);
        assert_eq!(lab.run_well(&vm).level(), format!("incremental {number}"), "{file} once");
        target.heal();
    }
    for file in
        ["vda.full.data".to_owned(), "vda.inc.virtnbdbackup.2.data".to_owned(), format!("{}.cpt", vm.name())]
    {
        target.fail(Op::Read, &file, Errno::IO);
        let ended = lab.run(&vm);
        target.heal();
        assert!(!ended.status.success(), "{file}: {ended:#?}");
        assert!(
            ended.error().contains("Cannot read ") && ended.error().contains(&file),
            "{file}: {ended:#?}"
        );
        assert_eq!(vm.checkpoints().len(), 3, "{file}");
    }
    assert_eq!(lab.run_well(&vm).level(), "incremental 3");
}

#[test]
fn a_crashed_guest_whose_process_is_kept_is_not_shut_off() {
    let lab = Lab::configured("preserved");
    let spec = VmSpec::new("preserved")
        .disk(DiskSpec::new("vda", MIB))
        .domain_xml("<on_crash>preserve</on_crash>")
        .devices_xml("<panic model='isa'/>");
    let vm = lab.define(&spec);
    vm.start_paused();
    vm.write("vda", 0, 64 << 10, 0x55).expect("a write");
    vm.resume();
    assert_eq!(lab.run_well(&vm).level(), "full");
    // The port of the panic device (QEMU docs/specs/pvpanic.rst): what a kernel writes there that gives up.
    virsh(&["qemu-monitor-command", vm.name(), "--hmp", "o /b 0x505 1"]);
    vm.wait_for_state("crashed", Duration::from_secs(20));
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "incremental 1", "{ended:#?}");
    assert_eq!(vm.state(), "crashed");
}

#[test]
fn a_log_that_cannot_be_opened_holds_up_nothing() {
    let lab = Lab::new("dead_logs");
    let logs = lab.faulty_file_system("logs");
    lab.configure(&[("LOG_DIR", logs.text())]);
    let [one, two] = ["one", "two"].map(|name| lab.paused_vm(name, &[DiskSpec::new("vda", MIB)]));
    let hangs = EVERYTHING.map(|op| logs.hang(op, ""));
    let run = lab.begin_run(lab.run_command(&[&one, &two]));
    wait_until_over(&run, Duration::from_secs(90));
    assert_eq!(lab.ask("SELECT status FROM vm_backups"), ["success", "success"], "{}", run.log());
    assert_eq!(lab.ask("SELECT status FROM sessions"), ["success"]);
    assert!(run.log().contains("line(s) are not in the log files"), "{}", run.log());
    // A signal ends one that has begun.
    let held = lab.run_held_at(&one, FailPoint::Copying);
    held.signal(Signal::TERM);
    held.release();
    wait_until_over(&held, LOG_STOP_LIMIT);
    drop(hangs);
    assert_eq!(held.wait().status.code(), Some(143));
    assert_eq!(run.wait().status.code(), Some(0));
    assert_eq!(lab.run_well(&two).level(), "incremental 1");
    assert!(fs::read_to_string(logs.path().join("vmbackup.log")).expect("a log").contains("1 backed up"));
}

/// Streams that a run writes at this moment.
fn open_streams(run: &Run) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", run.pid().as_raw_nonzero())).into_iter().flatten();
    let names = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    names.filter(|name| name.to_string_lossy().ends_with(".full.data.partial")).count()
}

#[test]
fn no_more_disks_are_copied_at_once_than_a_run_may_whosoever_they_are() {
    /// `docs/DESIGN.md`: disks of a run that are copied at once.
    const AT_ONCE: usize = 24;
    let lab = Lab::new("disks_at_once");
    let target = lab.faulty_file_system("target");
    lab.configure(&[("BACKUP_PATH", target.text()), ("PARALLEL_VMS", "4")]);
    let targets: Vec<String> = ('a'..='j').map(|letter| format!("sd{letter}")).collect();
    let disks: Vec<_> = targets.iter().map(|disk| DiskSpec::new(disk, MIB).bus(lab::Bus::Scsi)).collect();
    let vms = ["a", "b", "c", "d"].map(|name| lab.paused_vm(name, &disks));
    assert!(vms.len() * disks.len() > AT_ONCE);
    let streams = targets.iter().map(|disk| format!("{disk}.full.data.partial"));
    let hangs: Vec<_> = streams.map(|stream| target.hang(Op::Write, stream)).collect();
    let all: Vec<&Vm> = vms.iter().collect();
    let mut run = lab.begin_run(lab.run_command(&all));
    let began = Instant::now();
    let mut most = 0;
    while most < AT_ONCE || began.elapsed() < Duration::from_secs(10) {
        most = open_streams(&run).max(most);
        assert!(began.elapsed() < Duration::from_secs(120) && run.is_alive(), "{most}\n{}", run.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(most, AT_ONCE, "and not one of the others in all that time");
    // Streams that are whole stay open until they are published.
    drop(hangs);
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
}

#[test]
fn a_guard_that_hangs_ends_the_run_in_time_and_holds_no_guest() {
    let lab = Lab::configured("hung_guard");
    let vm = lab.running_vm("guarded", &[DiskSpec::new("vda", MIB)]);
    let mut run = lab.run_held_at(&vm, FailPoint::CheckpointsDropped);
    let guards = lab::children_of(run.pid()).into_iter().filter(|(_, name, _)| name == "kvm-guest-guard");
    let stopped: Vec<_> = guards.map(|(guard, ..)| Stopped::new(guard)).collect();
    assert_eq!(stopped.len(), 1, "it has a guard");
    run.release();
    // The first order is waited for a minute, those after it for some seconds.
    let began = Instant::now();
    while run.is_alive() {
        assert_eq!(vm.state(), "running", "{}", run.log());
        assert!(began.elapsed() < Duration::from_secs(60 + 30), "{}", run.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = run.wait();
    assert!(ended.error().contains("it does not answer within 60 s"), "{ended:#?}");
    assert!(vm.checkpoints().is_empty() && vm.backup_job().is_none(), "{ended:#?}");
    assert_eq!(fs::read_dir(lab.scratch_dir()).expect("a folder").count(), 0);
    drop(stopped);
    lab::wait_for_guard_below(&lab.backup_path(), &vm);
    assert_eq!(lab.run_well(&vm).level(), "full");
}

/// The most memory that a process has had so far, in KiB.
fn peak_kib(run: &Run) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", run.pid().as_raw_nonzero())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_vm_of_seventy_disks() {
    const DISKS: usize = 70;
    let lab = Lab::configured("seventy");
    let target = |number: usize| {
        let letter = |number: usize| char::from(b'a' + u8::try_from(number).expect("a letter"));
        match number {
            0..26 => format!("sd{}", letter(number)),
            _ => format!("sd{}{}", letter(number / 26 - 1), letter(number % 26)),
        }
    };
    let disk = |number| DiskSpec::new(&target(number), 8 * MIB).bus(lab::Bus::Scsi).format(DiskFormat::Qcow2);
    let vm = lab.define(&(0..DISKS).map(disk).fold(VmSpec::new("seventy"), VmSpec::disk));
    vm.start_paused();
    for number in 0..DISKS {
        vm.write(&target(number), 0, 6 * MIB, 1 + u8::try_from(number).expect("a byte")).expect("a write");
    }
    vm.resume();
    let mut history = History::default();
    for level in ["full", "incremental 1"] {
        let mut run = lab.begin_run(lab.run_command(&[&vm]));
        let mut peak = 0;
        while run.is_alive() {
            peak = peak_kib(&run).max(peak);
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = run.wait();
        assert_eq!(ended.level(), level, "{ended:#?}");
        println!("{level} of {DISKS} disks: {} MiB at most", peak >> 10);
        assert!(peak < 256 << 10, "{level}: {peak} KiB");
        history.note(&lab, &vm);
        vm.write("sdb", MIB, 64 << 10, 0x77).expect("a write");
    }
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_mount_that_names_dead_storage_delays_no_answer_about_a_device() {
    let lab = Lab::new("dead_source");
    let storage = lab.faulty_file_system("storage");
    let file = lab.path().join("device");
    fs::File::create(&file).and_then(|file| file.set_len(MIB)).expect("a file");
    let device = LoopDevice::over(&file);
    let mounted = lab.small_file_system("mounted", 1);
    // What a network file system calls its source may look like a path.
    let source = storage.path().join("remote");
    must(Command::new("mount").args(["-c", "-t", "tmpfs"]).arg(&source).arg(mounted.path()));
    let hangs = storage.hang(Op::Lookup, "remote");
    let (tell, told) = mpsc::channel();
    let asked = device.path().to_owned();
    std::thread::spawn(move || tell.send(writer_of(&asked)));
    let answer = told.recv_timeout(Duration::from_secs(30));
    drop(hangs);
    must(Command::new("umount").arg(mounted.path()));
    assert_eq!(answer, Ok(InUse::Free));
}

/// What hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hung {
    /// The storage of BACKUP_PATH.
    Target,
    /// That of the scratch files.
    Scratch,
    /// That of the disk's image: the guest's own reads and writes hang too.
    Image,
    /// That of the logs.
    Log,
    /// The libvirt daemon, for a while.
    Daemon,
    /// The program itself: SIGSTOP.
    Program,
}

/// Stages of a run at which something may hang, in their order. After the last one it only renames files.
fn stages() -> impl Iterator<Item = FailPoint> {
    FailPoint::passed_by_any(&[PassedBy::Job]).filter(|stage| *stage <= FailPoint::Publishing)
}

const HUNG: [Hung; 6] = [Hung::Target, Hung::Scratch, Hung::Image, Hung::Log, Hung::Daemon, Hung::Program];

/// Everything that a program may ask of a file system.
const EVERYTHING: [Op; 15] = [
    Op::Lookup,
    Op::GetAttr,
    Op::SetAttr,
    Op::MkDir,
    Op::Unlink,
    Op::Rename,
    Op::Open,
    Op::Create,
    Op::Read,
    Op::Write,
    Op::Flush,
    Op::FSync,
    Op::OpenDir,
    Op::FSyncDir,
    Op::StatFs,
];

/// How long the daemon stands still.
const DAEMON_PAUSE: Duration = Duration::from_secs(8);

/// A VM of which each part is on storage of its own that may hang.
struct Bench {
    vm: Vm,
    history: History,
    target: FaultyFileSystem,
    scratch: FaultyFileSystem,
    storage: FaultyFileSystem,
    logs: FaultyFileSystem,
    // The last one: what is mounted in it goes before.
    lab: Lab,
}

impl Bench {
    fn new(lab: Lab) -> Self {
        let [target, scratch, storage, logs] =
            ["target", "scratch-fs", "storage", "logs"].map(|name| lab.faulty_file_system(name));
        lab.configure(&[
            ("BACKUP_PATH", target.text()),
            ("VIRTNBD_SCRATCH_DIR", scratch.text()),
            ("LOG_DIR", logs.text()),
            ("BACKUP_STALL_THRESHOLD", "5"),
            ("FREEZE_TIMEOUT", "5"),
        ]);
        let vm = lab.define(&VmSpec::new("hung").disk(image_on(&storage, "hung.qcow2")));
        vm.start_paused();
        vm.write("vda", 0, MIB, 0x11).expect("a write");
        vm.resume();
        let mut bench = Self { vm, history: History::default(), target, scratch, storage, logs, lab };
        bench.back_up();
        bench
    }

    /// Backs up, and expects the next point to be right.
    #[track_caller]
    fn back_up(&mut self) {
        let ended = self.lab.run_well(&self.vm);
        let number = self.history.len();
        let want = if number == 0 { "full".to_owned() } else { format!("incremental {number}") };
        assert_eq!(ended.level(), want, "{ended:#?}");
        self.history.note(&self.lab, &self.vm);
        let dir = lab::chain_dir_below(self.target.path(), &self.vm);
        self.history.assert_newest(&self.lab, &dir, 1);
    }

    /// Lets something hang at a stage, then asks the run to stop.
    #[track_caller]
    fn cell(&mut self, stage: FailPoint, hung: Hung) {
        println!("{hung:?} hangs at {stage}");
        let number = u8::try_from(self.history.len()).expect("a byte");
        self.vm.write("vda", u64::from(number) * 65536, 65536, 0x80 | number).expect("a write");
        let at_snapshot = History::disks(&self.lab, &self.vm);
        let run = self.lab.run_held_at(&self.vm, stage);
        let waits_for_storage = waits_for_storage(stage, hung);
        if waits_for_storage && stage >= FailPoint::Released {
            // Nobody can ask libvirt later, and nobody can make it pause a guest either.
            assert_eq!(self.vm.state(), "running", "before {hung:?} hangs");
        }
        let began = Instant::now();
        let files = match hung {
            Hung::Target => Some(&self.target),
            Hung::Scratch => Some(&self.scratch),
            Hung::Image => Some(&self.storage),
            Hung::Log => Some(&self.logs),
            Hung::Daemon | Hung::Program => None,
        };
        let hangs: Vec<_> = files.iter().flat_map(|files| EVERYTHING.map(|op| files.hang(op, ""))).collect();
        let mut stopped = match hung {
            Hung::Program => Some(Stopped::new(run.pid())),
            Hung::Daemon => Some(Stopped::daemon()),
            _ => None,
        };
        run.release();
        std::thread::sleep(Duration::from_secs(1));
        run.signal(Signal::TERM);
        if hung == Hung::Daemon {
            std::thread::sleep(DAEMON_PAUSE);
            stopped = None;
        }
        if !waits_for_storage {
            let left = FREE_LIMIT.saturating_sub(began.elapsed()).max(Duration::from_secs(3));
            self.vm.wait_for_state("running", left);
            println!("  the guest runs after {:?}", began.elapsed());
        }
        drop(stopped);
        wait_until_over(&run, if hung == Hung::Log { LOG_STOP_LIMIT } else { STOP_LIMIT });
        println!("  the run is over after {:?}", began.elapsed());
        if !waits_for_storage && hung != Hung::Scratch {
            // Without what hangs: the guard needs none of it. Only QEMU cannot end a job whose scratch file hangs.
            self.vm.wait_until_free(FREE_LIMIT);
        }
        drop(hangs);
        let ended = run.wait();
        self.vm.wait_until_free(FREE_LIMIT);
        let error = ended.error();
        println!("  {:?}, {error}", ended.status);
        // The first cause. None where the run had come to its end, or could not say so.
        let is_told = error.is_empty() || error.starts_with("stopped by signal 15");
        assert!(is_told || ended.status.code() != Some(143), "{ended:#?}");
        lab::wait_for_guard_below(self.target.path(), &self.vm);
        let next = self.lab.run_well(&self.vm);
        if next.level() == format!("incremental {}", self.history.len() + 1) {
            // The run had come to its end, whether it could say so or not.
            self.history.push(at_snapshot);
        }
        assert_eq!(next.level(), format!("incremental {}", self.history.len()), "{next:#?}");
        self.history.note(&self.lab, &self.vm);
        self.history.assert_newest(&self.lab, &lab::chain_dir_below(self.target.path(), &self.vm), 2);
    }
}

/// Whether nobody can set a guest free before the storage is back, or say whether it is.
fn waits_for_storage(stage: FailPoint, hung: Hung) -> bool {
    match hung {
        // The disk's own.
        Hung::Image => true,
        // libvirt makes the scratch files when a job begins, and removes them when it ends; while either hangs it serves no
        // other call for that VM. Their storage is tried right before the first. At the other the guest runs; where
        // QEMU still reads (copying and before) it cannot end the job, so libvirt does not come to that.
        Hung::Scratch => matches!(stage, FailPoint::Held | FailPoint::Copied),
        Hung::Target | Hung::Log | Hung::Daemon | Hung::Program => false,
    }
}

/// Waits until a process has ended, or nothing of it is left but what hangs in the kernel, which no signal ends.
#[track_caller]
fn wait_until_over(run: &Run, limit: Duration) {
    let began = Instant::now();
    let is_over = || {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", run.pid().as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    };
    while !is_over() {
        assert!(began.elapsed() < limit, "the run does not end within {limit:?}\n{}", run.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A cell of each row, all at once: they mostly wait. That of the target takes a minute, as every one of its row.
#[test]
fn what_hangs_at_some_stages() {
    let cells = [
        (FailPoint::Copying, Hung::Target),
        (FailPoint::CheckpointsDropped, Hung::Scratch),
        (FailPoint::Copied, Hung::Image),
        (FailPoint::Begun, Hung::Log),
        (FailPoint::Held, Hung::Program),
        (FailPoint::Copied, Hung::Program),
    ];
    std::thread::scope(|scope| {
        for (stage, hung) in cells {
            scope.spawn(move || {
                Bench::new(Lab::new(&format!("some_hang_{hung:?}_{stage:?}"))).cell(stage, hung)
            });
        }
    });
}

/// That of the daemon's row, which is everybody's.
#[test]
fn what_hangs_with_the_daemon_at_a_stage() {
    Bench::new(Lab::alone("some_hang_daemon")).cell(FailPoint::Begun, Hung::Daemon);
}

/// Whether a cell is asked for: the variable names it, with commas between several, or is not there.
fn is_asked(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |asked| asked.split(',').any(|one| one == name))
}

/// The whole table, or what of it `HANGS` (what hangs) and `HANGS_AT` (stages) name. Stops the libvirt daemon, so no other
/// test runs meanwhile. All cells are tried, each red one leaves a new VM to the next.
#[test]
#[ignore = "takes long, and stops the libvirt daemon: make soak"]
fn what_hangs_at_every_stage() {
    let (mut tried, mut red) = (0, vec![]);
    for hung in HUNG.into_iter().filter(|hung| is_asked("HANGS", &format!("{hung:?}"))) {
        let mut green = None;
        for stage in stages().filter(|stage| is_asked("HANGS_AT", (*stage).into())) {
            let mut bench = green
                .take()
                .unwrap_or_else(|| Bench::new(Lab::alone(&format!("hang_{hung:?}_{}", red.len()))));
            let outcome = catch_unwind(AssertUnwindSafe(|| bench.cell(stage, hung)));
            tried += 1;
            match outcome {
                Ok(()) => green = Some(bench),
                Err(_) => red.push(format!("{hung:?} at {stage}")),
            }
        }
    }
    assert!(tried > 0, "HANGS and HANGS_AT leave nothing to try");
    assert_eq!(red, Vec::<String>::new());
}
