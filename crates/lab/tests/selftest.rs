//! The lab tests itself: a lab that is wrong would make every other test worthless.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lab::{Bus, Difference, DiskFormat, DiskOp, DiskSpec, Lab, Op, Version, Vm, VmSpec, domains, make_ext4};
use random::Random;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

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
    let mut random = Random::from_environment("LAB_SEED");
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
}

#[test]
fn the_booted_guest_obeys_the_power_button() {
    let lab = Lab::new("power_button");
    let extra = lab.path().join("extra.raw");
    make_ext4(&extra, 8 * MIB);
    let vm = lab.boot(VmSpec::new("acpi").disk(DiskSpec::new("vdb", 8 * MIB).content(&extra)));
    assert_eq!(vm.guest_exec("grep -c ext4 /proc/mounts"), (0, "2\n".to_owned()));
    assert_eq!(vm.guest_exec("echo kept >/mnt/vdb/file").0, 0);
    vm.acpi_shutdown();
    let disk = vm.read_out("vdb");
    let kept = lab::must(std::process::Command::new("/sbin/debugfs").args(["-R", "cat /file"]).arg(disk));
    assert_eq!(kept, "kept\n");
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
fn many_small_requests_reach_the_shadow_on_and_off() {
    let lab = Lab::new("many_writes");
    let vm = lab.paused_vm("fragmented", &[DiskSpec::new("vda", 64 * MIB)]);
    let write = |at: u64| DiskOp::Write { offset: at * 12288, len: 4096, pattern: 1 + (at % 255) as u8 };
    vm.run("vda", &(0..500).map(write).collect::<Vec<_>>()).expect("every request is valid");
    vm.destroy();
    let mut ops: Vec<DiskOp> = (500..5000).map(write).collect();
    ops.push(DiskOp::Discard { offset: 8 * MIB - 512, len: MIB });
    vm.run_while_off("vda", &ops);
    assert_shadows_equal(&vm);
}

#[test]
fn every_kind_of_drive_is_there() {
    let lab = Lab::new("drives");
    let image = lab.path().join("served.raw");
    make_ext4(&image, 4 * MIB);
    let server = lab.nbd_server(&image);
    let iso = lab.path().join("some.iso");
    std::fs::write(&iso, [0; 4096]).expect("a file");
    let spec = VmSpec::new("drives")
        .disk(DiskSpec::new("vda", MIB))
        .disk(DiskSpec::new("sda", MIB).format(DiskFormat::Raw).extra_xml("<serial>abc</serial>"))
        .network_disk("vdn", server.socket())
        .cdrom("sdc", None)
        .cdrom("sdd", Some(&iso))
        .floppy("fda", None)
        .domain_xml("<description>a &amp; b</description>");
    let vm = lab.define(&spec);
    vm.start_paused();
    let xml = vm.xml();
    for part in ["<serial>abc</serial>", "protocol='nbd'", "device='floppy'", "some.iso", "a &amp; b"] {
        assert!(xml.contains(part), "{part} is not in {xml}");
    }
    assert_eq!(vm.state(), "paused");
    assert_eq!(vm.targets(), ["sda", "vda"]);
    vm.write("sda", 0, MIB, 1).expect("a write");
}

#[test]
fn leftovers_of_a_dead_test_process_go_and_nothing_else_does() {
    let lab = Lab::new("leftovers");
    // Alive while its leftovers are made: a lab of another test would remove them at once.
    let mut owner = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
    let (dead, alive) = (owner.id(), std::process::id());
    let stale = format!("vmbt-{dead}-1-left behind");
    let kept =
        [format!("vmbt-{dead}-x-other"), format!("vmbt-{alive}-9999-alive"), format!("xvmbt-{dead}-1-other")];
    let directories: Vec<_> =
        std::iter::once(&stale).chain(&kept).map(|name| lab.path().with_file_name(name)).collect();
    for (name, directory) in std::iter::once(&stale).chain(&kept).zip(&directories) {
        std::fs::create_dir(directory).expect("a directory");
        let xml = directory.join("domain.xml");
        let os = "<memory>65536</memory><os><type machine='q35'>hvm</type></os>";
        std::fs::write(&xml, format!("<domain type='qemu'><name>{name}</name>{os}</domain>"))
            .expect("a file");
        lab::must(
            std::process::Command::new("virsh").args(["-q", "-c", "qemu:///system", "define"]).arg(xml),
        );
    }
    owner.kill().and_then(|()| owner.wait().map(drop)).expect("it ends");
    drop(Lab::new("removes_leftovers"));
    // A lab of another test may be at it too, and a moment behind.
    for _ in 0..50 {
        if !domains().contains(&stale) && !directories[0].exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (domains, there): (Vec<_>, Vec<_>) =
        (domains(), directories.iter().map(|path| path.exists()).collect());
    for (name, directory) in kept.iter().zip(&directories[1..]) {
        lab::must(std::process::Command::new("virsh").args(["-q", "-c", "qemu:///system", "undefine", name]));
        std::fs::remove_dir_all(directory).expect("the directory is removed by its test");
    }
    assert!(!domains.contains(&stale), "{stale} is still defined");
    assert!(kept.iter().all(|name| domains.contains(name)), "one of {kept:?} is gone: {domains:?}");
    assert_eq!(there, [false, true, true, true], "directories of {stale} and {kept:?}");
}

#[test]
fn a_faulty_file_system_is_a_file_system_but_for_its_faults() {
    let lab = Lab::new("faulty");
    let faulty = lab.faulty_file_system("fuse");
    let at = |name: &str| faulty.path().join(name);
    fs::create_dir(at("dir")).expect("a folder");
    fs::write(at("dir/one"), "1").expect("a file");
    fs::hard_link(at("dir/one"), at("two")).expect("a link");
    let number = |name: &str| fs::metadata(at(name)).expect("there").ino();
    assert_eq!(number("dir/one"), number("two"));
    std::os::unix::fs::symlink("dir/one", at("three")).expect("a link");
    assert_eq!(fs::read_to_string(at("three")).expect("readable"), "1");
    let no_replace = |to: &str| renameat_with(CWD, at("two"), CWD, at(to), RenameFlags::NOREPLACE);
    assert_eq!(no_replace("dir/one"), Err(Errno::EXIST));
    renameat_with(CWD, at("two"), CWD, at("three"), RenameFlags::EXCHANGE).expect("both change places");
    assert!(fs::symlink_metadata(at("two")).expect("there").is_symlink());
    let mut names: Vec<_> =
        fs::read_dir(faulty.path()).expect("a list").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["dir", "three", "two"]);
    assert_eq!(fs::read_to_string(faulty.beneath().join("dir/one")).expect("passed through"), "1");

    faulty.fail_once(Op::GetAttr, "dir/one", 1, Errno::IO);
    let failed = |name: &str| fs::symlink_metadata(at(name)).err().and_then(|e| e.raw_os_error());
    assert_eq!(failed("dir/one"), None, "the first is passed over");
    assert_eq!(failed("dir/one"), Some(Errno::IO.raw_os_error()));
    assert_eq!(failed("dir/one"), None, "only once");
    faulty.forget_links();
    faulty.forget_rename_flags();
    assert_eq!(fs::hard_link(at("dir/one"), at("four")).expect_err("none").raw_os_error(), Some(1));
    assert_eq!(no_replace("free"), Err(Errno::INVAL));
    fs::rename(at("dir"), at("moved")).expect("without flags it can");

    let hang = faulty.hang(Op::Lookup, "moved/one");
    let path = at("moved/one");
    let reader = std::thread::spawn(move || fs::read_to_string(path));
    let began = Instant::now();
    while faulty.hanging() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the read does not hang");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(fs::read_dir(at("moved")).is_ok(), "others go on");
    assert!(!reader.is_finished());
    drop(hang);
    assert_eq!(reader.join().expect("no panic").expect("it goes on"), "1");
}
