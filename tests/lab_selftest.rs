//! The lab tests itself: a lab that is wrong would make every other test worthless.

mod lab;

use std::panic::{AssertUnwindSafe, catch_unwind};

use lab::{Bus, Difference, DiskFormat, DiskOp, DiskSpec, Lab, Random, Version, Vm, domains};

const MIB: u64 = 1 << 20;

fn assert_shadows_equal(vm: &Vm) {
    for target in vm.targets() {
        if let Err(difference) = vm.shadow(target).equals(&vm.read_out(target)) {
            panic!("{} disk {target}: {difference}", vm.name());
        }
    }
}

fn random_op(random: &mut Random, disk_bytes: u64) -> DiskOp {
    let (offset, len) = random.range(disk_bytes, MIB);
    match random.below(10) {
        0 => DiskOp::WriteZeroes { offset, len, unmap: false },
        1 => DiskOp::WriteZeroes { offset, len, unmap: true },
        2 | 3 => DiskOp::Discard { offset, len },
        4 => DiskOp::Discard { offset, len: disk_bytes - offset },
        5 => DiskOp::Flush,
        _ => DiskOp::Write { offset, len, pattern: random.below(256) as u8 },
    }
}

#[test]
fn shadow_equals_the_disk_after_random_requests() {
    let lab = Lab::new("random_requests");
    let sizes = [
        ("vda", 8 * MIB),
        ("vdb", 3 * MIB + 512),
        ("sda", 5 * MIB + 1024),
        ("sdb", 4 * MIB),
        ("vdc", 2 * MIB),
    ];
    let mut disks = sizes.map(|(target, size)| DiskSpec::new(target, size));
    disks[2].format = DiskFormat::Raw;
    disks[3] = disks[3].clone().bus(Bus::Scsi).cluster_bytes(4096);
    disks[4] = disks[4].clone().discard(false).format(DiskFormat::Qcow2V2);
    let vm = lab.paused_vm("random", &disks);
    let mut random = Random::from_environment();
    for (target, size) in sizes {
        let ops: Vec<DiskOp> = (0..300).map(|_| random_op(&mut random, size)).collect();
        vm.run(target, &ops).expect("every request is valid");
    }
    let noise: Vec<u8> = (0..4096).map(|_| random.next_u64() as u8).collect();
    vm.write_bytes("vda", MIB, &noise).expect("the bytes are written");
    vm.destroy();
    assert_shadows_equal(&vm);
}

#[test]
fn failed_requests_are_errors_and_leave_the_shadow() {
    let lab = Lab::new("failed_requests");
    let vm = lab.paused_vm("small", &[DiskSpec::new("vda", MIB)]);
    vm.write("vda", 0, 4096, 1).expect("inside the disk");
    assert!(vm.write("vda", MIB, 512, 7).is_err(), "a write past the end");
    assert!(vm.write_zeroes("vda", MIB, 512, true).is_err(), "zeros past the end");
    assert!(vm.reads_as("vda", 0, 4096, 1).expect("a read"), "what was written");
    assert!(!vm.reads_as("vda", 0, 8192, 1).expect("a read"), "more than what was written");
    vm.destroy();
    assert_shadows_equal(&vm);
    assert!(vm.write("vda", 0, 512, 1).is_err(), "a VM that is off");
}

#[test]
fn a_shadow_names_the_first_difference() {
    let lab = Lab::new("differences");
    let vm = lab.paused_vm("one byte", &[DiskSpec::new("vda", 4 * MIB)]);
    vm.write("vda", MIB, MIB, 3).expect("a write");
    let copy = vm.shadow("vda").copy_to(&lab.path().join("copy"));
    assert_eq!(vm.shadow("vda").equals(copy.path()), Ok(()));
    copy.write(3 * MIB + 5, &[9]);
    let at = 3 * MIB + 5;
    assert_eq!(vm.shadow("vda").equals(copy.path()), Err(Difference::Content { at, shadow: 0, other: 9 }));
    copy.write(MIB + 7, &[4]);
    let at = MIB + 7;
    assert_eq!(vm.shadow("vda").equals(copy.path()), Err(Difference::Content { at, shadow: 3, other: 4 }));
}

#[test]
fn disks_come_grow_and_go() {
    let lab = Lab::new("hotplug");
    let mut vm = lab.paused_vm("with spaces", &[DiskSpec::new("vda", 2 * MIB)]);
    vm.attach_disk(&DiskSpec::new("vdb", 3 * MIB));
    vm.attach_disk(&DiskSpec::new("sda", 3 * MIB).bus(Bus::Scsi));
    vm.write("vdb", MIB, 512, 5).expect("a write to an attached disk");
    vm.write("sda", MIB, 512, 6).expect("a write to an attached disk");
    vm.resize_disk("vda", 5 * MIB);
    vm.write("vda", 4 * MIB, 512, 7).expect("a write to the new part");
    vm.detach_disk("sda");
    assert_eq!(vm.targets(), ["vda", "vdb"]);
    vm.destroy();
    assert_eq!(vm.state(), "shut off");
    assert_shadows_equal(&vm);
    vm.detach_disk("vdb");
    vm.start_paused();
    assert!(vm.reads_as("vda", 4 * MIB, 512, 7).expect("a read"));
    assert!(vm.write("vdb", 0, 512, 1).is_err(), "a detached disk");
}

#[test]
fn a_killed_vm_starts_again() {
    let lab = Lab::new("killed");
    let vm = lab.paused_vm("killed vm", &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm.flush("vda").expect("a flush");
    vm.kill_qemu();
    vm.start_paused();
    assert!(vm.reads_as("vda", 0, MIB, 1).expect("a read"));
}

#[test]
fn both_releases_of_virtnbdbackup_make_a_round_trip() {
    let lab = Lab::new("round_trip");
    for version in Version::ALL {
        let name = format!("two disks {version:?}");
        let vm = lab.paused_vm(&name, &[DiskSpec::new("vda", 6 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)]);
        vm.write("vda", MIB, MIB, 0x11).expect("a write");
        vm.write("vdb", 3 * MIB, 512, 0x22).expect("a write to the last sector");
        let set = lab.new_dir(&format!("set-{version:?}"));
        backup(&lab, version, &vm, "full", &set);
        let first = ["vda", "vdb"].map(|target| vm.shadow(target).copy_to(&set.with_extension(target)));
        vm.write("vda", 3 * MIB, 64 << 10, 0x33).expect("a write");
        backup(&lab, version, &vm, "inc", &set);
        assert_eq!(vm.checkpoints(), ["virtnbdbackup.0", "virtnbdbackup.1"]);
        for reader in Version::ALL {
            let last = [("vda", vm.shadow("vda")), ("vdb", vm.shadow("vdb"))];
            lab.assert_virtnbdrestore(reader, &set, None, &last);
            let first = [("vda", &first[0]), ("vdb", &first[1])];
            lab.assert_virtnbdrestore(reader, &set, Some("virtnbdbackup.0"), &first);
        }
    }
}

fn backup(lab: &Lab, version: Version, vm: &Vm, level: &str, set: &std::path::Path) {
    let output = lab.virtnbdbackup(version, vm, level, set, &[]);
    assert!(output.status.success(), "{version:?} {level}: {}", lab::text(&output));
}

#[test]
fn the_booted_guest_has_a_real_agent() {
    let lab = Lab::new("booted");
    let vm = lab.booted_vm("linux guest");
    assert_eq!(vm.guest_exec("echo hello; exit 3"), (3, "hello\n".to_owned()));
    assert_eq!(vm.guest_exec("echo written >/data/file && sync").0, 0);
    let none = serde_json::json!({});
    let os = vm.agent("guest-get-osinfo", none.clone()).expect("the agent knows the system");
    assert_eq!(os["id"], "labguest");
    let frozen = vm.agent("guest-fsfreeze-freeze", none.clone()).expect("the file system freezes");
    assert_eq!(frozen, 1, "one file system: /data");
    let status = vm.agent("guest-fsfreeze-status", none.clone()).expect("the agent knows");
    assert_eq!(status, "frozen");
    let thawed = vm.agent("guest-fsfreeze-thaw", none.clone()).expect("the file system thaws");
    assert_eq!(thawed, 1);
    let trimmed = vm.agent("guest-fstrim", none).expect("the file system is trimmed");
    assert_eq!(trimmed["paths"][0]["path"], "/data");
    assert!(trimmed["paths"][0]["trimmed"].as_u64().is_some_and(|bytes| bytes > 0), "{trimmed}");
    vm.guest_shutdown();
    vm.start();
}

#[test]
fn a_panic_leaves_no_domain_and_no_file() {
    let mut seen = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::new("panics");
        seen = Some((lab.prefix().to_owned(), lab.path().to_owned()));
        let vm = lab.paused_vm("left behind", &[DiskSpec::new("vda", MIB)]);
        assert!(domains().contains(&vm.name().to_owned()), "the domain is there before the panic");
        panic!("on purpose");
    }));
    assert!(result.is_err(), "the panic happened");
    let (prefix, directory) = seen.expect("the lab was made");
    assert!(domains().iter().all(|domain| !domain.starts_with(&prefix)), "{:?}", domains());
    assert!(!directory.exists(), "{} is still there", directory.display());
}

#[test]
fn a_thousand_small_writes_take_seconds() {
    let lab = Lab::new("many_writes");
    let vm = lab.paused_vm("fragmented", &[DiskSpec::new("vda", 512 * MIB)]);
    let ops: Vec<DiskOp> = (0..4000)
        .map(|at| DiskOp::Write { offset: at * (128 << 10), len: 4096, pattern: 1 + (at % 255) as u8 })
        .collect();
    let began = std::time::Instant::now();
    vm.run("vda", &ops).expect("every request is valid");
    println!("{} writes in {:?}", ops.len(), began.elapsed());
    vm.destroy();
    assert_shadows_equal(&vm);
}
