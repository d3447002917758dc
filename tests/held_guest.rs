//! Things hang instead of dying: the program, libvirt, QEMU, the target, the log. The guest runs on all the same.
//!
//! Tests that stop the libvirt daemon are in `daemon_hangs`: it is everybody's.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{
    Bed, DiskSpec, FREE_LIMIT, History, Lab, Op, Stopped, Vm, children_of, exclude, kill_both, sockets_of,
};
use random::Random;
use rustix::process::Signal;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

/// How long a guest may be held whatever hangs: `FREEZE_TIMEOUT` is 1 s in these tests.
const HELD_LIMIT: Duration = Duration::from_secs(1 + 10);

fn running_vm(lab: &Lab, name: &str) -> Vm {
    let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 4 * MIB)]);
    vm.write("vda", 0, MIB, 7).expect("a write");
    vm.resume();
    vm
}

#[test]
fn a_program_that_is_stopped_lets_go_of_its_guest() {
    let lab = Lab::new("stopped_program");
    lab.configure(&[("FREEZE_TIMEOUT", "1")]);
    let vm = running_vm(&lab, "guest");
    for (number, place) in [FailPoint::Held, FailPoint::Begun].into_iter().enumerate() {
        let run = lab.run_held_at(&vm, place);
        let stopped = Stopped::new(run.pid());
        assert_eq!(vm.state(), "paused", "at {place}");
        vm.wait_for_state("running", HELD_LIMIT);
        assert_eq!(
            vm.backup_job().is_some(),
            place == FailPoint::Begun,
            "the run lives, and its job is its own"
        );
        drop(stopped);
        run.release();
        let ended = run.wait();
        assert!(ended.status.success(), "stopped at {place}: {ended:#?}");
        assert_eq!(ended.report("method"), "running", "stopped at {place}: {ended:#?}");
        assert!(ended.report("warnings").contains("crash-consistent"), "{ended:#?}");
        assert_eq!(vm.checkpoints().len(), number + 1);
        vm.wait_until_free(Duration::ZERO);
    }
    // Nothing of that stays: the next one is held still as ever.
    let ended = lab.run_well(&vm);
    assert_eq!((ended.level().as_str(), ended.report("method").as_str()), ("incremental 2", "paused"));
}

#[test]
fn a_program_that_stands_still_fills_no_scratch_directory() {
    let lab = Lab::new("stopped_copy");
    let scratch = lab.small_file_system("little-scratch", 64);
    lab.configure(&[("VIRTNBD_SCRATCH_DIR", scratch.text())]);
    let bytes = 128 * MIB;
    let vm = lab.running_vm("guest", &[DiskSpec::new("vda", bytes)]);
    let mut history = History::default();
    lab.run_well(&vm);
    history.note(&lab, &vm);
    // Stopped; or only its main thread hangs, before the scratch directory is watched at all.
    for (place, is_stopped) in [(FailPoint::Copying, true), (FailPoint::Released, false)] {
        vm.write("vda", 0, bytes, 0x11).expect("a write");
        let run = lab.run_held_at(&vm, place);
        let stopped = is_stopped.then(|| Stopped::new(run.pid()));
        // Its guard finds that out.
        std::thread::sleep(Duration::from_secs(2));
        assert!(vm.backup_job().is_some(), "at {place}: there is room yet");
        for offset in (0..bytes).step_by(4 << 20) {
            vm.write("vda", offset, 4 * MIB, 0x77).expect("the guest's writes never fail");
        }
        vm.wait_until_free(FREE_LIMIT);
        drop(stopped);
        run.release();
        let ended = run.wait();
        println!("at {place}: {}", ended.error());
        assert_eq!(ended.status.code(), Some(4), "{ended:#?}");
        for words in ["this program stood still", "left in scratch directory"] {
            assert!(ended.error().contains(words), "{words:?} is not in {ended:#?}");
        }
        assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0, "nothing is left there");
        let ended = lab.run_well(&vm);
        assert_eq!(ended.level(), format!("incremental {}", history.len()), "{ended:#?}");
        history.note(&lab, &vm);
    }
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
}

#[test]
fn a_program_that_dies_while_qemu_hangs_is_helped_when_qemu_goes_on() {
    let lab = Lab::configured("qemu_hangs");
    let mut bed = Bed::at_random(&lab, Random::from_environment("LAB_SEED"));
    bed.back_up("full");
    for place in [FailPoint::Held, FailPoint::Begun] {
        bed.change();
        let run = bed.lab.run_held_at(&bed.vm, place);
        assert_eq!(bed.vm.state(), "paused");
        let qemu = Stopped::of(bed.vm.qemu_pid());
        run.signal(Signal::KILL);
        // Longer than anybody would guess.
        std::thread::sleep(Duration::from_secs(12));
        drop(qemu);
        let took = bed.vm.wait_until_free(Duration::from_secs(15));
        println!("QEMU hung at {place}: free {} ms after it went on", took.as_millis());
        drop(run);
        bed.back_up_next();
        bed.assert_tidy(place);
    }
    bed.points.assert_restorable(bed.lab, &bed.dir());
}

#[test]
fn a_job_that_begins_after_the_program_died_is_ended() {
    let lab = Lab::new("late_job");
    let scratch = lab.faulty_file_system("fuse");
    lab.configure(&[("FREEZE_TIMEOUT", "1"), ("VIRTNBD_SCRATCH_DIR", scratch.text())]);
    let vm = running_vm(&lab, "guest");
    assert_eq!(lab.run_well(&vm).level(), "full");
    let run = lab.run_held_at(&vm, FailPoint::Held);
    let hangs = [Op::Create, Op::Open, Op::Write, Op::SetAttr].map(|op| scratch.hang(op, ""));
    run.release();
    let began = Instant::now();
    while scratch.hanging() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "libvirt does not come to its scratch file");
        std::thread::sleep(Duration::from_millis(10));
    }
    // libvirt hangs between the begin of the call and its transaction, and answers nothing about the VM: not even virsh
    // may be asked.
    run.signal(Signal::KILL);
    std::thread::sleep(Duration::from_secs(12));
    drop(hangs);
    // It begins now, if at all, and nobody is there to end it but the guard.
    let began = Instant::now();
    let mut seen = false;
    while began.elapsed() < Duration::from_secs(60) {
        seen |= vm.backup_job().is_some();
        if vm.backup_job().is_none() && (seen || began.elapsed() > Duration::from_secs(20)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("a late job was seen: {seen}, and is gone {} ms after", began.elapsed().as_millis());
    std::thread::sleep(Duration::from_secs(2));
    vm.wait_until_free(Duration::ZERO);
    drop(run);
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
}

#[test]
fn a_target_that_hangs_keeps_no_guest_from_running() {
    let lab = Lab::new("target_hangs");
    let target = lab.faulty_file_system("fuse");
    let keys = [("BACKUP_PATH", target.text()), ("FREEZE_TIMEOUT", "1")];
    lab.configure(&keys);
    let vm = running_vm(&lab, "guest");
    assert_eq!(lab.run_well(&vm).level(), "full");
    let hang = || {
        [Op::Lookup, Op::Open, Op::Create, Op::Write, Op::FSync, Op::Rename, Op::Read, Op::GetAttr]
            .map(|op| target.hang(op, ""))
    };
    // Killed: the guard needs neither the journal nor the lock, which are there.
    for place in [FailPoint::Held, FailPoint::Begun] {
        let run = lab.run_held_at(&vm, place);
        assert_eq!(vm.state(), "paused");
        let hangs = hang();
        run.signal(Signal::KILL);
        let took = vm.wait_until_free(FREE_LIMIT * 2);
        println!("killed at {place}: free after {} ms", took.as_millis());
        drop(hangs);
        drop(run);
        lab.run_well(&vm);
    }
    // Not killed: it lets go of the guest, and waits.
    let points = vm.checkpoints().len();
    let run = lab.run_held_at(&vm, FailPoint::Held);
    let hangs = hang();
    run.release();
    vm.wait_for_state("running", HELD_LIMIT);
    assert_eq!(vm.checkpoints().len(), points + 1, "the snapshot was taken");
    // Two signals end it, whatever it waits for; its guard does the rest.
    run.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(1500));
    run.signal(Signal::TERM);
    vm.wait_until_free(FREE_LIMIT * 5);
    drop(hangs);
    let ended = run.wait_for(Duration::from_secs(20));
    assert_eq!(ended.status.code(), Some(143), "{ended:#?}");
    lab.run_well(&vm);
}

#[test]
fn a_log_that_hangs_holds_up_nothing() {
    let lab = Lab::new("log_hangs");
    let logs = lab.faulty_file_system("fuse");
    lab.configure(&[("LOG_DIR", logs.text())]);
    let vm = running_vm(&lab, "guest");
    let hang = logs.hang(Op::Write, "");
    let run = lab.run_held_at(&vm, FailPoint::Begun);
    assert!(logs.hanging() > 0, "the log hangs");
    run.release();
    vm.wait_until_free(Duration::from_secs(60));
    // The point is there, whole and published, though no line of it is written.
    let began = Instant::now();
    while fs::read_dir(lab.chain_dir(&vm)).expect("its chain").flatten().all(|e| !is_list(&e.path())) {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", run.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(hang);
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(ended.level(), "full");
    let log = fs::read_to_string(logs.beneath().join("vmbackup.log")).expect("the log");
    assert!(log.contains("FINAL RESULTS: 1 backed up"), "what was said is written in the end: {log}");

    // Killed while a thread of it waits for the log, so that the kernel cannot end it.
    let hang = logs.hang(Op::Write, "");
    let run = lab.run_held_at(&vm, FailPoint::Begun);
    assert_eq!(vm.state(), "paused");
    run.signal(Signal::KILL);
    let took = vm.wait_until_free(FREE_LIMIT * 2);
    println!("killed with a log that hangs: free after {} ms", took.as_millis());
    drop(hang);
    let pid = run.pid();
    drop(run);
    lab.run_well(&vm);
    assert_eq!(sockets_of(pid), Vec::<std::path::PathBuf>::new());

    // Stopped by signals meanwhile: the first one stops it in order, without a line in the log.
    let hang = logs.hang(Op::Write, "");
    let run = lab.run_held_at(&vm, FailPoint::Begun);
    run.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    run.release();
    vm.wait_until_free(Duration::from_secs(10));
    drop(hang);
    assert_eq!(run.wait().status.code(), Some(143));
    assert_eq!(lab.run_well(&vm).level(), "incremental 2");
}

/// Waits until a point of a VM is published, which is not said: the log hangs.
#[track_caller]
fn wait_for_points(lab: &Lab, vm: &Vm, count: usize, limit: Duration) {
    let lists = || fs::read_dir(lab.backup_path().join(vm.name())).into_iter().flatten().flatten();
    let points = || -> usize {
        let texts = lists()
            .filter_map(|period| fs::read_to_string(period.path().join(format!("{}.cpt", vm.name()))).ok());
        texts.filter_map(|text| serde_json::from_str::<Vec<String>>(&text).ok()).map(|list| list.len()).sum()
    };
    let began = Instant::now();
    while points() < count {
        assert!(began.elapsed() < limit, "{} points after {limit:?}", points());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("point {count} after {:?}", began.elapsed());
}

#[test]
fn a_log_that_cannot_be_closed_holds_up_no_program_of_the_run() {
    let lab = Lab::new("log_closes");
    let logs = lab.faulty_file_system("fuse");
    lab.configure(&[("LOG_DIR", logs.text())]);
    let vm = running_vm(&lab, "guest");
    assert_eq!(lab.run_well(&vm).level(), "full");
    // A program that is started closes what it got from us: it must have got nothing that waits then.
    let run = lab.run_held_at(&vm, FailPoint::Begun);
    let hangs = [Op::Write, Op::Flush].map(|op| logs.hang(op, ""));
    run.release();
    wait_for_points(&lab, &vm, 2, Duration::from_secs(14));
    // Before the journal goes, a program of the run has removed what the job left.
    let journals = || fs::read_dir(lab.backup_path().join("_state/journal")).into_iter().flatten().count();
    let began = Instant::now();
    while journals() > 0 {
        assert!(began.elapsed() < Duration::from_secs(8), "a program waits for the log");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(logs.hanging() > 0, "the log hangs");
    drop(hangs);
    let ended = run.wait();
    assert_eq!(ended.level(), "incremental 1", "{ended:#?}");
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cpt")
}

#[test]
fn a_guest_that_nobody_could_help_is_helped_by_the_next_run_whoever_it_is_about() {
    let lab = Lab::configured("double_death");
    let (vm, other) = (running_vm(&lab, "guest"), running_vm(&lab, "other"));
    // Excluded since: no run backs it up any more, and it is set free all the same.
    kill_both(lab.run_held_at(&vm, FailPoint::Held));
    assert_eq!(vm.state(), "paused", "nobody is left to help");
    exclude(&lab, &vm);
    let ended = lab.begin_run(lab.run_command(&[&vm, &other])).wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(vm.state(), "running");
    exclude(&lab, &other);

    // Started anew and paused on purpose: that is nothing to undo.
    kill_both(lab.run_held_at(&vm, FailPoint::Held));
    vm.destroy();
    vm.start_paused();
    let ended = lab.run_well(&vm);
    assert_eq!(vm.state(), "paused", "{ended:#?}");
    assert_eq!(ended.report("method"), "already_paused");
    assert!(ended.report("recovered").contains("ended in the middle"), "{ended:#?}");
}

#[test]
fn a_guard_leaves_alone_what_somebody_pauses_after_it_has_helped() {
    let lab = Lab::configured("paused_later");
    let vm = running_vm(&lab, "guest");
    let run = lab.run_held_at(&vm, FailPoint::Held);
    let guards = children_of(run.pid());
    run.signal(Signal::KILL);
    vm.wait_until_free(FREE_LIMIT);
    // It has seen the guest run: its work on that is done, though it still looks for a late job.
    std::thread::sleep(Duration::from_secs(2));
    assert!(guards.iter().any(|(pid, ..)| lab::is_alive(*pid)), "it stays for what may come late");
    lab::virsh(&["suspend", vm.name()]);
    let ended_by = Instant::now() + Duration::from_secs(90);
    while guards.iter().any(|(pid, ..)| lab::is_alive(*pid)) {
        assert!(Instant::now() < ended_by, "the guard does not end");
        assert_eq!(vm.state(), "paused", "that was not ours to undo");
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(run);
    // Nor is it for the next run.
    assert_eq!(lab.run_well(&vm).report("method"), "already_paused");
    assert_eq!(vm.state(), "paused");
}
