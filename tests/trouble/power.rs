//! VMs that stop, start, write or are paused during their backup: the chain is valid, and goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::{DiskSpec, Ended, History, Lab, Version, VmSpec};
use random::Random;
use vmbackup::engine::fail_point::FailPoint;

use super::set_up::{
    MIB, VM, assert_failed, assert_no_journal, back_up, change, noise_file, small_vm, wait_for_partial,
    write_and_zero,
};

#[test]
fn a_killed_qemu_costs_the_bitmap_and_nothing_else() {
    let lab = Lab::configured("qemu_killed");
    let mut random = Random::from_environment("LAB_SEED");
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
    let lab = Lab::configured("writes_meanwhile");
    let mut random = Random::from_environment("LAB_SEED");
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
    let lab = Lab::configured("switched_off");
    let mut random = Random::from_environment("LAB_SEED");
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
    let lab = Lab::configured("restarts");
    let mut random = Random::from_environment("LAB_SEED");
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
    let mut random = Random::from_environment("LAB_SEED");
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
fn a_paused_vm_stays_paused_also_when_its_run_is_killed() {
    let lab = Lab::configured("stays_paused");
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
