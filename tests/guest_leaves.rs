//! A guest, or its agent alone, goes during its backup: the point is finished, and its chain goes on.
//!
//! Alone on the host: libvirt ends the backup jobs of all VMs in one thread, which waits 30 s, in vain, for a guest whose
//! agent goes while it has a job. Whoever measures how soon a guest is free would measure that.

use std::time::{Duration, Instant};

use lab::{History, Lab, assert_clean, extract, file_in, play_agents};
use vmbackup::engine::fail_point::FailPoint;

#[test]
fn a_guest_that_shuts_down_in_mid_run_keeps_its_chain() {
    let lab = Lab::alone("shuts_down");
    lab.configure(&[]);
    let vm = lab.booted_vm("guest");
    let mut history = History::default();
    let note = |history: &mut History| {
        // The guest writes on its own, so the image itself is what tells; the shadow knows nothing.
        history.push(History::disks_of_files(&lab, &[("vda", &vm.read_out("vda"))]));
    };
    lab.run_held_by(&vm, "full", "agent");
    let first = extract(&lab, &lab.chain_dir(&vm), "vda", None);
    history.push(History::disks_of_files(&lab, &[("vda", &first)]));
    for (number, place) in [FailPoint::Copying, FailPoint::Copied].into_iter().enumerate() {
        assert_eq!(vm.guest_exec(&format!("echo {place} >/data/{place} && sync")).0, 0);
        let run = lab.run_held_at(&vm, place);
        if number == 0 {
            vm.guest_shutdown()
        } else {
            vm.acpi_shutdown()
        }
        run.release();
        let ended = run.wait();
        assert!(ended.status.success(), "{ended:#?}");
        assert_eq!(ended.level(), format!("incremental {}", 2 * number + 1), "{ended:#?}");
        note(&mut history);
        history.assert_restorable(&lab, &lab.chain_dir(&vm));
        let image = extract(&lab, &lab.chain_dir(&vm), "vda", None);
        assert_clean(&image);
        assert_eq!(file_in(&image, &format!("/{place}")), format!("{place}\n"));
        vm.boot();
        lab.run_held_by(&vm, &format!("incremental {}", 2 * number + 2), "agent");
        let image = extract(&lab, &lab.chain_dir(&vm), "vda", None);
        assert_clean(&image);
        history.push(History::disks_of_files(&lab, &[("vda", &image)]));
    }
}

#[test]
fn an_agent_that_dies_when_frozen_costs_time_and_nothing_else() {
    let lab = Lab::alone("dying_agent");
    lab.configure(&[("FSTRIM_TIMEOUT", "2"), ("FREEZE_TIMEOUT", "2")]);
    let vm = lab.booted_vm("guest");
    play_agents(&vm, &["*freeze-freeze*) printf '{\"return\":1}\\n' >&3; exit;;"]);
    let began = Instant::now();
    let ended = lab.run_held_by(&vm, "full", "agent");
    // It comes back during the job, too: libvirt waits twice.
    assert!(began.elapsed() < Duration::from_secs(150), "took {:?}", began.elapsed());
    assert_eq!(vm.state(), "running", "{ended:#?}");
    assert!(vm.backup_job().is_none());
}
