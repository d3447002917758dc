//! The libvirt daemon is killed and started again in the middle of a backup.

use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{DiskSpec, History, Lab, Stopped, Version, is_alive, restart_daemon, virsh};
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

#[test]
fn a_backup_survives_a_restart_of_the_daemon_or_fails_cleanly() {
    let lab = Lab::alone("daemon_restart");
    lab.configure(&[]);
    let vm = lab.paused_vm("restarts", &[DiskSpec::new("vda", 8 * MIB), DiskSpec::new("vdb", MIB + 512)]);
    vm.write("vda", MIB, 2 * MIB, 0x11).expect("a write");
    vm.resume();
    let mut history = History::default();
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "full", "{ended:#?}");
    history.note(&lab, &vm);
    for (pattern, place) in [
        (0x22, FailPoint::Copying),
        (0x33, FailPoint::Copied),
        (0x44, FailPoint::Held),
        (0x55, FailPoint::Publishing),
    ] {
        vm.write("vda", 3 * MIB, MIB, pattern).expect("a write");
        vm.write("vdb", MIB, 512, pattern).expect("a write");
        let at_snapshot = History::disks(&lab, &vm);
        let run = lab.run_held_at(&vm, place);
        restart_daemon();
        run.release();
        let ended = run.wait();
        println!("restarted at {place}: {} {}", ended.level(), ended.error());
        vm.wait_until_free(Duration::from_secs(20));
        if ended.status.success() {
            assert_eq!(ended.level(), format!("incremental {}", history.len()), "{ended:#?}");
            history.push(at_snapshot);
        } else {
            assert!(ended.status.code().is_some_and(|code| code > 0), "{ended:#?}");
            assert!(!ended.error().is_empty(), "{ended:#?}");
        }
        assert_eq!(vm.checkpoints().len(), history.len(), "at {place}: {:?}", vm.checkpoints());
        history.assert_restorable(&lab, &lab.chain_dir(&vm));
        vm.write("vda", 4 * MIB, MIB, pattern).expect("a write");
        let ended = lab.run_well(&vm);
        assert_eq!(ended.level(), format!("incremental {}", history.len()), "after {place}: {ended:#?}");
        history.note(&lab, &vm);
    }
    // The run and the daemon die together: the guard waits for the daemon.
    vm.write("vda", 5 * MIB, MIB, 0x66).expect("a write");
    let run = lab.run_held_at(&vm, FailPoint::Begun);
    assert_eq!(vm.state(), "paused");
    restart_daemon();
    run.signal(rustix::process::Signal::KILL);
    vm.wait_until_free(Duration::from_secs(20));
    drop(run);
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), format!("incremental {}", history.len()), "{ended:#?}");
    history.note(&lab, &vm);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
    history.assert_virtnbdrestore(&lab, Version::Distribution, &lab.chain_dir(&vm));
}

#[test]
fn a_test_that_leaves_the_daemon_dead_fails_and_the_next_one_does_not() {
    let left = catch_unwind(|| {
        let _lab = Lab::alone("leaves_the_daemon_dead_on_purpose");
        let daemon = Stopped::daemon();
        let pid = daemon.pid();
        daemon.kill();
        let began = Instant::now();
        while is_alive(pid) {
            assert!(began.elapsed() < Duration::from_secs(20), "the daemon does not die");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    // systemd starts it by itself.
    if !Path::new("/run/systemd/system").exists() {
        let said = left.expect_err("the lab saw it");
        assert_eq!(said.downcast_ref::<&str>(), Some(&"the test left the libvirt daemon dead"));
    }
    let _lab = Lab::new("next");
    assert_eq!(virsh(&["uri"]).trim(), "qemu:///system");
}
