//! Backups of a Linux guest that runs, with its real agent: frozen for the moment of the snapshot and no longer,
//! whatever the agent or the program does.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{FREE_LIMIT, Lab, Stopped, Vm, assert_clean, extract, file_in, virsh};
use rustix::process::Signal;
use vmbackup::engine::fail_point::FailPoint;

/// How long a guest may stand still: frozen by its agent, or paused.
const FROZEN_LIMIT_MS: u64 = 2000;
const PAUSED_LIMIT_MS: u64 = 1000;

/// Restores the guest's disk at the newest point.
fn restored(lab: &Lab, vm: &Vm) -> PathBuf {
    extract(lab, &lab.chain_dir(vm), "vda", None)
}

#[track_caller]
fn assert_runs_thawed(vm: &Vm) {
    assert_eq!(vm.state(), "running");
    assert_eq!(vm.is_frozen(), Ok(false));
    assert_eq!(vm.guest_exec("echo alive >/data/alive && sync").0, 0, "the guest can write");
}

#[test]
fn a_guest_with_an_agent_is_frozen_for_the_snapshot_only() {
    let lab = Lab::configured("frozen");
    let vm = lab.booted_vm("guest");
    assert_eq!(vm.guest_exec("echo first >/data/first && sync").0, 0);
    let ended = lab.run_held_by(&vm, "full", "agent");
    assert!(ended.stopped_ms() < FROZEN_LIMIT_MS, "frozen for {} ms", ended.stopped_ms());
    let line = format!("file systems frozen for {} ms", ended.stopped_ms());
    assert!(ended.log.contains(&line), "{line:?} is not in {}", ended.log);
    assert_runs_thawed(&vm);
    let image = restored(&lab, &vm);
    assert_clean(&image);
    assert_eq!(file_in(&image, "/first"), "first\n");

    // A guest that never stops writing; the file system of the backup is clean all the same.
    vm.guest_spawn("while true; do echo line >>/data/log; done");
    assert_eq!(vm.guest_exec("echo second >/data/second && sync").0, 0);
    let run = lab.run_held_at(&vm, FailPoint::Held);
    assert_eq!(vm.is_frozen(), Ok(true), "frozen before the job begins");
    assert_eq!((vm.state().as_str(), vm.backup_job()), ("running", None), "frozen guests are not paused too");
    run.release();
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
    let run = lab.run_held_at(&vm, FailPoint::Released);
    assert_runs_thawed(&vm);
    run.release();
    let ended = run.wait();
    assert_eq!((ended.level().as_str(), ended.report("method").as_str()), ("incremental 2", "agent"));
    assert!(ended.stopped_ms() < FROZEN_LIMIT_MS, "frozen for {} ms", ended.stopped_ms());
    let image = restored(&lab, &vm);
    assert_clean(&image);
    assert_eq!(file_in(&image, "/first"), "first\n");
    assert_eq!(file_in(&image, "/second"), "second\n");

    // A guest that somebody else paused: its agent is not asked, and it stays paused.
    virsh(&["suspend", vm.name()]);
    lab.run_held_by(&vm, "incremental 3", "already_paused");
    assert_eq!(vm.state(), "paused");
    vm.resume();
    assert_runs_thawed(&vm);
}

#[test]
fn a_frozen_guest_thaws_when_the_program_is_killed() {
    let lab = Lab::configured("killed_frozen");
    let vm = lab.booted_vm("guest");
    lab.run_held_by(&vm, "full", "agent");
    for (number, place) in [FailPoint::Held, FailPoint::Begun, FailPoint::Held].into_iter().enumerate() {
        let run = lab.run_held_at(&vm, place);
        assert_eq!(vm.is_frozen(), Ok(true), "at {place}");
        run.signal(Signal::KILL);
        let killed = Instant::now();
        while vm.is_frozen() != Ok(false) {
            assert!(killed.elapsed() < FREE_LIMIT, "killed at {place}: frozen after {:?}", killed.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        vm.wait_until_free(FREE_LIMIT.saturating_sub(killed.elapsed()));
        println!("killed at {place}: free after {} ms", killed.elapsed().as_millis());
        drop(run);
        assert_runs_thawed(&vm);
        lab.run_held_by(&vm, &format!("incremental {}", number + 1), "agent");
        assert_runs_thawed(&vm);
    }
    assert_clean(&restored(&lab, &vm));
}

#[test]
fn a_run_stopped_by_a_signal_thaws_the_guest() {
    let lab = Lab::configured("stopped_frozen");
    let vm = lab.booted_vm("guest");
    lab.run_held_by(&vm, "full", "agent");
    for place in [FailPoint::Held, FailPoint::Begun] {
        let run = lab.run_held_at(&vm, place);
        run.signal(Signal::TERM);
        run.release();
        let ended = run.wait_for(Duration::from_secs(60));
        assert_eq!(ended.status.code(), Some(143), "{ended:#?}");
        assert_runs_thawed(&vm);
        assert_eq!((vm.backup_job(), vm.checkpoints().len()), (None, 1));
    }
    lab.run_held_by(&vm, "incremental 1", "agent");
}

#[test]
fn a_guest_without_an_agent_is_paused_for_the_snapshot_only() {
    let lab = Lab::configured("no_agent");
    let vm = lab.booted_vm("guest");
    assert_eq!(vm.guest_exec("echo first >/data/first && sync").0, 0);
    vm.guest_spawn("rm /usr/sbin/qemu-ga; sleep 0.2; kill $(pidof qemu-ga real-qemu-ga)");
    let began = Instant::now();
    while vm.xml().contains("state='connected'") {
        assert!(began.elapsed() < Duration::from_secs(20), "the agent does not go");
        std::thread::sleep(Duration::from_millis(50));
    }
    for number in 0..3 {
        let level = if number == 0 { "full".to_owned() } else { format!("incremental {number}") };
        let ended = lab.run_held_by(&vm, &level, "paused");
        assert!(ended.stopped_ms() < PAUSED_LIMIT_MS, "paused for {} ms", ended.stopped_ms());
        assert!(ended.log.contains(&format!("paused for {} ms", ended.stopped_ms())), "{}", ended.log);
        assert_eq!((vm.state().as_str(), vm.backup_job()), ("running", None));
    }
    // As after a power cut: the file system replays its journal, and what was synced is there.
    let image = restored(&lab, &vm);
    let status = Command::new("/sbin/e2fsck").args(["-f", "-p"]).arg(&image).status().expect("e2fsck runs");
    assert!(status.code().is_some_and(|code| code <= 1), "{status}");
    assert_eq!(file_in(&image, "/first"), "first\n");
}

#[test]
fn an_agent_that_hangs_delays_the_backup_and_no_more() {
    let lab = Lab::configured("agent_hangs");
    let vm = lab.booted_vm("guest");
    vm.guest_spawn("sleep 1; pid=$(pidof qemu-ga); kill -STOP $pid; sleep 20; kill -CONT $pid");
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    let ended = lab.run_held_by(&vm, "full", "paused");
    assert!(began.elapsed() < Duration::from_secs(15), "took {:?}", began.elapsed());
    assert!(ended.stopped_ms() < PAUSED_LIMIT_MS, "paused for {} ms", ended.stopped_ms());
    assert!(ended.report("warnings").contains("agent"), "somebody should look: {ended:#?}");
    assert_eq!(vm.state(), "running");
    vm.wait_for_agent();
    assert_runs_thawed(&vm);
}

#[test]
fn a_guest_that_somebody_else_has_frozen_stays_as_it_is() {
    let lab = Lab::configured("frozen_by_others");
    let vm = lab.booted_vm("guest");
    vm.agent("guest-fsfreeze-freeze", serde_json::json!({})).expect("the guest freezes");
    let ended = lab.run_well(&vm);
    assert_eq!(vm.is_frozen(), Ok(true), "it was not ours to thaw: {ended:#?}");
    assert_eq!((ended.level().as_str(), ended.report("method").as_str()), ("full", "already_frozen"));
    assert!(ended.report("warnings").contains("by somebody else"), "{ended:#?}");
    assert_eq!((vm.state().as_str(), vm.backup_job()), ("running", None));
    vm.agent("guest-fsfreeze-thaw", serde_json::json!({})).expect("the guest thaws");
    assert_runs_thawed(&vm);
    lab.run_held_by(&vm, "incremental 1", "agent");
}

#[test]
fn a_frozen_guest_thaws_when_the_program_is_stopped() {
    let lab = Lab::new("stopped_program_frozen");
    lab.configure(&[("FREEZE_TIMEOUT", "3")]);
    let vm = lab.booted_vm("guest");
    let run = lab.run_held_at(&vm, FailPoint::Held);
    let stopped = Stopped::new(run.pid());
    assert_eq!(vm.is_frozen(), Ok(true));
    let began = Instant::now();
    while vm.is_frozen() != Ok(false) {
        assert!(began.elapsed() < Duration::from_secs(3 + 10), "frozen after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_runs_thawed(&vm);
    drop(stopped);
    run.release();
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(ended.report("method"), "running", "{ended:#?}");
    assert!(ended.report("warnings").contains("crash-consistent"), "{ended:#?}");
    lab.run_held_by(&vm, "incremental 1", "agent");
}

/// Makes the guest's agent run a script that takes `seconds` before each freeze.
fn freeze_slowly(vm: &Vm, seconds: u32) {
    let script =
        format!("#!/bin/sh\\n[ $1 = freeze ] \\&\\& sleep {seconds}\\nexit 0\\n").replace("\\&", "&");
    let hook = format!("printf '{script}' >/slow-hook && chmod 755 /slow-hook");
    let wrapper = "mv /usr/sbin/qemu-ga /usr/sbin/real-qemu-ga && \
        printf '#!/bin/sh\\nexec /usr/sbin/real-qemu-ga -F/slow-hook \"$@\"\\n' >/usr/sbin/qemu-ga && \
        chmod 755 /usr/sbin/qemu-ga";
    assert_eq!(
        vm.guest_exec(&format!("{hook} && {{ [ -e /usr/sbin/real-qemu-ga ] || {{ {wrapper}; }}; }}")).0,
        0
    );
    vm.guest_spawn("sleep 0.3; kill $(pidof qemu-ga real-qemu-ga)");
    std::thread::sleep(Duration::from_secs(3));
    vm.wait_for_agent();
}

#[test]
fn a_freeze_that_takes_too_long_is_given_up_and_undone() {
    let lab = Lab::new("slow_freeze");
    lab.configure(&[("FREEZE_TIMEOUT", "2")]);
    let vm = lab.booted_vm("guest");
    assert_eq!(vm.guest_exec("echo first >/data/first && sync").0, 0);
    // Late, but while the run still asks.
    freeze_slowly(&vm, 6);
    let ended = lab.run_held_by(&vm, "full", "running");
    assert!(ended.report("warnings").contains("crash-consistent"), "{ended:#?}");
    assert_runs_thawed(&vm);
    // So late that the run is long over when the guest freezes: it must not stay frozen.
    freeze_slowly(&vm, 60);
    let began = Instant::now();
    let ended = lab.run_held_by(&vm, "incremental 1", "running");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(55), "took {took:?}");
    assert!(ended.report("warnings").contains("crash-consistent"), "{ended:#?}");
    std::thread::sleep(Duration::from_secs(61).saturating_sub(began.elapsed()));
    vm.wait_for_agent();
    let late = Instant::now();
    while vm.is_frozen() != Ok(false) {
        assert!(late.elapsed() < Duration::from_secs(10), "the guest froze late and stays frozen");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_runs_thawed(&vm);
}
