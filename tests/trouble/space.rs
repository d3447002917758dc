//! A target or a scratch directory without room costs one run, and no guest.

use std::fs;

use lab::{DiskSpec, History, Lab, Version, Vm};
use random::Random;
use vmbackup::engine::fail_point::{FailPoint, PassedBy};

use super::set_up::{
    MIB, STORAGE, assert_failed, assert_no_journal, back_up, noise, noise_file, wait_for_partial,
};

/// A running VM of one disk full of noise.
fn noisy_vm(lab: &Lab, random: &mut Random, bytes: u64) -> Vm {
    let content = noise_file(lab, random, bytes);
    lab.running_vm("noisy", &[DiskSpec::new("vda", bytes).content(&content)])
}

#[test]
fn a_backup_that_cannot_fit_is_refused_before_the_guest_is_touched() {
    let lab = Lab::new("forecast");
    let mut random = Random::from_environment("LAB_SEED");
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
    let mut random = Random::from_environment("LAB_SEED");
    let vm = noisy_vm(&lab, &mut random, 4 * MIB);
    let target = lab.small_file_system("target", 64);
    lab.configure(&[("BACKUP_PATH", target.text())]);
    let mut history = History::default();
    back_up(&lab, &vm, &mut history);
    let chain_dir = lab::chain_dir_below(target.path(), &vm);
    let places = FailPoint::passed_by_any(&[PassedBy::Job]);
    // From then on nothing needs room any more.
    for place in places.filter(|place| *place < FailPoint::FilesWritten) {
        vm.write_bytes("vda", MIB, &noise(&mut random, MIB)).expect("a write");
        let run = lab.run_held_at(&vm, place);
        target.fill();
        run.release();
        let ended = run.wait();
        println!("full at {place}: {}", ended.error());
        assert_failed(&ended, STORAGE, "No space left on device", &history, &vm, &chain_dir);
        let row = &ended.vm()["report"];
        assert_eq!(row["points_before"], history.len(), "{place}: {row:#}");
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
    let mut random = Random::from_environment("LAB_SEED");
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
    // What was known by then is told.
    let known = &ended.vm()["report"];
    assert!(known["scratch_peak_bytes"].as_u64() > Some(0), "{known:#}");
    assert_eq!((&known["method"], &known["points"]), (&"paused".into(), &1.into()), "{known:#}");
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
