//! A guest is shut down during its backup: the point is finished from its disks, and its chain goes on.
//!
//! Alone on the host: libvirt ends the backup jobs of all VMs in one thread, which waits 30 s, in vain, for a guest whose
//! agent goes while it has a job. Whoever measures how soon a guest is free would measure that.

use lab::{History, Lab, assert_clean, extract, file_in};
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
