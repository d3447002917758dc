//! Our sets under the readers that people have, their sets under ours, and chains that both have written.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use lab::{
    Bus, DiskFormat, DiskOp, DiskSpec, Ended, History, Lab, Version, Vm, VmSpec, extract, make_ext4, text,
    virsh, wait_for_the_clock,
};

const MIB: u64 = 1 << 20;

/// A VM's chain: what each point must hold.
struct Chain<'a> {
    lab: &'a Lab,
    points: History,
}

impl<'a> Chain<'a> {
    fn new(lab: &'a Lab) -> Self {
        Self { lab, points: History::default() }
    }

    fn note(&mut self, vm: &Vm) {
        self.points.note(self.lab, vm);
    }

    /// Takes the next point with our program. It has to be an increment, or the full of a new chain.
    #[track_caller]
    fn ours(&mut self, vm: &Vm) -> Ended {
        let ended = self.lab.run_well(vm);
        let want = match self.points.len() {
            0 => "full".to_owned(),
            number => format!("incremental {number}"),
        };
        assert_eq!(ended.level(), want, "{}\n{}", ended.why(), ended.log);
        self.note(vm);
        ended
    }

    /// Takes the next point with virtnbdbackup.
    #[track_caller]
    fn theirs(&mut self, vm: &Vm, version: Version) {
        let set = this_month(self.lab, vm);
        wait_for_the_clock(&set);
        let level = if self.points.is_empty() { "full" } else { "inc" };
        let output = self.lab.virtnbdbackup(version, vm, level, &set, &["--compress"]);
        assert!(output.status.success(), "{version:?} {level}: {}", text(&output));
        self.note(vm);
    }

    /// Takes the first point of a new chain with our program. The one so far must be in the archive and whole.
    #[track_caller]
    fn ours_anew(&mut self, vm: &Vm, level: &str, why: &str) -> Ended {
        let ended = self.lab.run_well(vm);
        assert_eq!((ended.level().as_str(), ended.why().as_str()), (level, why), "{}", ended.log);
        self.lab.assert_points(Path::new(&ended.report("archived_to")), &self.points);
        self.points.clear();
        if level == "copy" {
            self.points.note_copy(self.lab, vm)
        } else {
            self.note(vm)
        }
        ended
    }

    #[track_caller]
    fn assert(&self, vm: &Vm) {
        self.lab.assert_points(&self.lab.chain_dir(vm), &self.points);
    }
}

/// Where our program keeps the chain of a VM whose name needs no change to be a folder's.
fn this_month(lab: &Lab, vm: &Vm) -> PathBuf {
    let set = lab.backup_path().join(vm.name()).join(jiff::Zoned::now().strftime("%Y%m").to_string());
    fs::create_dir_all(&set).expect("the set has a folder");
    set
}

#[test]
fn a_disk_that_did_not_change_is_right_at_every_point() {
    let lab = Lab::configured("unchanged");
    let vm =
        lab.paused_vm("unchanged", &[DiskSpec::new("vda", 4 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)]);
    let mut chain = Chain::new(&lab);
    // vdb is empty at the full, and changes in some runs only.
    vm.write("vda", 0, MIB, 1).expect("a write");
    chain.ours(&vm);
    vm.write("vda", MIB, MIB, 2).expect("a write");
    chain.ours(&vm);
    vm.write("vdb", MIB, MIB, 3).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.write("vdb", 0, 512, 4).expect("a write");
    vm.write_zeroes("vda", 0, 4 * MIB, true).expect("zeros");
    chain.ours(&vm);
    vm.write("vdb", 0, 3 * MIB + 512, 5).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.write("vdb", 0, 3 * MIB + 512, 6).expect("a write");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_disk_that_was_added() {
    let lab = Lab::configured("added");
    let mut vm = lab.paused_vm("added", &[DiskSpec::new("vda", 4 * MIB)]);
    let mut chain = Chain::new(&lab);
    vm.write("vda", 0, MIB, 1).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.attach_disk(&DiskSpec::new("vdb", 5 * MIB + 512));
    vm.attach_disk(&DiskSpec::new("sda", 2 * MIB).bus(Bus::Scsi));
    vm.write("vdb", 5 * MIB, 512, 2).expect("a write");
    vm.write("vda", MIB, 512, 2).expect("a write");
    chain.ours(&vm);
    vm.write("vdb", 0, MIB, 3).expect("a write");
    vm.write("sda", MIB, MIB, 4).expect("a write");
    chain.ours(&vm);
    vm.write_zeroes("vdb", 0, MIB, false).expect("zeros");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_disk_that_grew() {
    let lab = Lab::configured("grown");
    let vm = lab.paused_vm("grown", &[DiskSpec::new("vda", 4 * MIB), DiskSpec::new("vdb", 4 * MIB)]);
    let mut chain = Chain::new(&lab);
    vm.write("vda", 0, 4 * MIB, 1).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.resize_disk("vda", 7 * MIB + 512);
    chain.ours_anew(&vm, "full", "disk vda was resized");
    vm.write("vda", 7 * MIB, 512, 2).expect("a write");
    vm.write_zeroes("vda", MIB, 3 * MIB, true).expect("zeros");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_disk_that_took_the_place_of_another() {
    let lab = Lab::configured("replaced");
    let mut vm = lab.paused_vm("replaced", &[DiskSpec::new("vda", 4 * MIB)]);
    let mut chain = Chain::new(&lab);
    let sda = || DiskSpec::new("sda", 3 * MIB).bus(Bus::Scsi);
    vm.attach_disk(&sda());
    vm.write("sda", 0, 2 * MIB, 1).expect("a write");
    chain.ours(&vm);
    vm.write("sda", 2 * MIB, 512, 2).expect("a write");
    chain.ours(&vm);
    vm.detach_disk("sda");
    vm.forget_disk(&sda());
    chain.ours(&vm);
    chain.ours(&vm);
    vm.attach_disk(&sda());
    vm.write("sda", MIB, 512, 3).expect("a write");
    chain.ours(&vm);
    vm.write("sda", 0, 512, 4).expect("a write");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_chain_that_virtnbdbackup_began_and_both_go_on_with() {
    let lab = Lab::configured("theirs_first");
    for version in Version::ALL {
        let name = format!("theirs-first-{version:?}");
        let disks = [DiskSpec::new("vda", 6 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)];
        let vm = lab.paused_vm(&name, &disks);
        let mut chain = Chain::new(&lab);
        let write = |at: u64, pattern: u8| {
            vm.write("vda", at * MIB, MIB, pattern).expect("a write");
            vm.write("vdb", at * 512, 1024, pattern).expect("a write");
        };
        write(0, 1);
        vm.write("vda", MIB, 4 * MIB, 1).expect("a write");
        vm.write("vdb", MIB, 2 * MIB + 512, 1).expect("a write");
        chain.theirs(&vm, version);
        write(1, 2);
        chain.theirs(&vm, version);
        // Where their streams hold data, which a zero frame would not take back.
        vm.write_zeroes("vda", MIB / 2, MIB, false).expect("zeros");
        vm.write_zeroes("vda", 3 * MIB, MIB, true).expect("zeros");
        vm.discard("vda", 4 * MIB + 1024, MIB / 2).expect("a discard");
        vm.write_zeroes("vdb", 3 * MIB, 512, true).expect("zeros");
        chain.ours(&vm);
        chain.ours(&vm);
        write(2, 3);
        chain.theirs(&vm, version);
        write(3, 4);
        vm.write_zeroes("vda", 0, MIB, true).expect("zeros");
        chain.ours(&vm);
        chain.assert(&vm);
    }
}

#[test]
fn a_chain_that_we_began_and_virtnbdbackup_goes_on_with() {
    let lab = Lab::configured("ours_first");
    for version in Version::ALL {
        let name = format!("ours-first-{version:?}");
        let vm = lab.paused_vm(&name, &[DiskSpec::new("vda", 6 * MIB), DiskSpec::new("vdb", 5 * MIB)]);
        let mut chain = Chain::new(&lab);
        let write = |at: u64, pattern: u8| {
            vm.write("vda", at * MIB, 2 * MIB, pattern).expect("a write");
            vm.write("vdb", at * 4096, 65536, pattern).expect("a write");
        };
        write(0, 1);
        chain.ours(&vm);
        chain.ours(&vm);
        write(1, 2);
        chain.theirs(&vm, version);
        vm.write_zeroes("vda", MIB, 2 * MIB, true).expect("zeros");
        chain.ours(&vm);
        write(4, 3);
        chain.theirs(&vm, version);
        vm.discard("vda", 0, 6 * MIB).expect("a discard");
        chain.ours(&vm);
        chain.assert(&vm);
    }
}

#[test]
fn names_with_everything_in_them() {
    let lab = Lab::configured("names");
    for name in ["it's  \"quoted\"", "Größe & <Übel>", "$HOME;*?[a]\\n,-x"] {
        let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 2 * MIB)]);
        let mut chain = Chain::new(&lab);
        vm.write("vda", 0, MIB, 1).expect("a write");
        chain.ours(&vm);
        vm.write("vda", MIB, 512, 2).expect("a write");
        chain.ours(&vm);
        vm.destroy();
        let copied = chain.ours_anew(&vm, "copy", "the VM is shut off");
        assert_eq!(copied.report("method"), "offline");
        chain.assert(&vm);
    }
}

#[test]
fn images_in_folders_with_everything_in_their_names() {
    let lab = Lab::configured("image_names");
    let folder = lab.new_dir("it's a \"folder\" & <more>, ö=1");
    let vm = lab.define(&VmSpec::new("images").disk(DiskSpec::new("vda", 2 * MIB)));
    let image = folder.join("vda.qcow2");
    fs::rename(vm.disk_path("vda"), &image).expect("the image moves");
    std::os::unix::fs::symlink(&image, vm.disk_path("vda")).expect("the lab finds it");
    redefine(&vm, |xml| {
        let escaped =
            image.to_str().expect("text").replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
        xml.replace(vm.disk_path("vda").to_str().expect("text"), &escaped)
    });
    vm.start_paused();
    let mut chain = Chain::new(&lab);
    vm.write("vda", 0, MIB, 1).expect("a write");
    chain.ours(&vm);
    vm.write("vda", MIB, 512, 2).expect("a write");
    chain.ours(&vm);
    vm.destroy();
    chain.ours_anew(&vm, "copy", "the VM is shut off");
    chain.assert(&vm);
}

/// Defines the VM again from a changed copy of its XML.
fn redefine(vm: &Vm, change: impl Fn(&str) -> String) {
    let file = vm.directory().join("redefined.xml");
    let xml = virsh(&["dumpxml", "--inactive", vm.name()]);
    let changed = change(&xml);
    assert_ne!(changed, xml, "there was something to change");
    fs::write(&file, changed).expect("the XML can be written");
    virsh(&["define", file.to_str().expect("text")]);
}

#[test]
fn a_raw_disk_is_copied_with_fulls_when_asked_for() {
    let lab = Lab::new("raw");
    lab.configure(&[("BACKUP_RAW_DISKS", "true")]);
    let raw = DiskSpec::new("vdb", 3 * MIB + 512).format(DiskFormat::Raw);
    let vm = lab.paused_vm("raw", &[DiskSpec::new("vda", 2 * MIB), raw]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm.write("vdb", 3 * MIB, 512, 2).expect("a write");
    let full = lab.run_well(&vm);
    assert_eq!((full.level().as_str(), full.left_out()), ("full", String::new()));
    let set = lab.chain_dir(&vm);
    let image = set.join("vdb.copy.data");
    let at_full = vm.shadow("vdb").copy_to(&lab.path().join("at-full"));
    assert_eq!(at_full.equals(&image), Ok(()));
    let taken = fs::metadata(&image).expect("the image").modified().expect("a time");

    vm.write("vda", MIB, 512, 3).expect("a write");
    vm.write("vdb", 0, MIB, 4).expect("a write");
    let increment = lab.run_well(&vm);
    assert_eq!(increment.level(), "incremental 1", "{}", increment.why());
    let left_out = increment.left_out();
    assert!(left_out.contains("vdb") && left_out.contains("not included in an incremental"), "{left_out}");
    assert_eq!(at_full.equals(&image), Ok(()), "the image of the full is never overwritten");
    assert_eq!(fs::metadata(&image).expect("the image").modified().expect("a time"), taken);
    // Both points give the image of the full back, by us and by the raw copying of virtnbdrestore.
    for point in ["virtnbdbackup.0", "virtnbdbackup.1"] {
        assert_eq!(at_full.equals(&extract(&lab, &set, "vdb", Some(point))), Ok(()));
        for version in Version::ALL {
            let restored = lab.virtnbdrestore_with(version, &set, Some(point), &["--raw"]);
            let restored = restored.unwrap_or_else(|said| panic!("{version:?} until {point}: {said}"));
            assert_eq!(at_full.equals(&restored["vdb"]), Ok(()), "{version:?} until {point}");
        }
    }
    assert_eq!(vm.shadow("vda").equals(&extract(&lab, &set, "vda", None)), Ok(()));

    // A new chain has a new image, and the archive keeps the old one.
    vm.resize_disk("vda", 4 * MIB);
    let anew = lab.run_well(&vm);
    assert_eq!(anew.level(), "full", "{}", anew.why());
    assert_eq!(vm.shadow("vdb").equals(&image), Ok(()));
    assert_eq!(at_full.equals(&Path::new(&anew.report("archived_to")).join("vdb.copy.data")), Ok(()));
}

#[test]
fn disks_that_cannot_be_read_are_left_out_with_the_reason() {
    let lab = Lab::configured("left_out");
    let served = lab.path().join("served.raw");
    make_ext4(&served, 4 * MIB);
    let server = lab.nbd_server(&served);
    let iso = lab.path().join("some.iso");
    fs::write(&iso, [0; 4096]).expect("a file");
    let spec = VmSpec::new("left out")
        .disk(DiskSpec::new("vda", 2 * MIB))
        .disk(DiskSpec::new("vdb", MIB).format(DiskFormat::Raw))
        .network_disk("vdn", server.socket())
        .cdrom("sdc", None)
        .cdrom("sdd", Some(&iso))
        .floppy("fda", None);
    let vm = lab.define(&spec);
    vm.start_paused();
    vm.write("vda", 0, MIB, 1).expect("a write");
    let reasons = [
        ("vdb", "BACKUP_RAW_DISKS=true"),
        ("vdn", "network disk (nbd)"),
        ("sdc", "removable media (cdrom)"),
        ("sdd", "removable media (cdrom)"),
        ("fda", "removable media (floppy)"),
    ];
    let check = |ended: &Ended, count: usize| {
        let left_out = ended.left_out();
        for (target, reason) in &reasons[..count] {
            let line = left_out.lines().find(|line| line.starts_with(target));
            assert!(line.is_some_and(|line| line.contains(reason)), "{target}: {left_out}");
        }
        assert_eq!(left_out.lines().count(), reasons.len(), "{left_out}");
        let disks: Vec<_> = fs::read_dir(lab.chain_dir(&vm)).expect("a set").flatten().collect();
        let streams = disks.iter().map(|entry| entry.file_name().into_string().expect("text"));
        assert!(streams.filter(|name| name.ends_with(".data")).all(|name| name.starts_with("vda.")));
    };
    let mut chain = Chain::new(&lab);
    check(&chain.ours(&vm), 5);
    vm.write("vda", MIB, 512, 2).expect("a write");
    let increment = chain.ours(&vm);
    assert!(increment.left_out().contains("not included in an incremental"), "{}", increment.left_out());
    let set = lab.chain_dir(&vm);
    for point in chain.points.iter() {
        let raw = extract(&lab, &set, "vda", Some(&point.name));
        assert_eq!(point.disks["vda"].equals(&raw), Ok(()), "{}", point.name);
    }
    vm.destroy();
    let copy = lab.run_well(&vm);
    assert_eq!(copy.level(), "copy", "{}", copy.why());
    check(&copy, 5);
}

#[test]
fn a_volume_of_a_pool() {
    let lab = Lab::configured("volume");
    let vm = lab.define(&VmSpec::new("volume").disk(DiskSpec::new("vda", 3 * MIB)));
    let pool = format!("{}pool", lab.prefix());
    let folder = vm.directory().to_str().expect("text").to_owned();
    virsh(&["pool-create-as", &pool, "dir", "--target", &folder]);
    redefine(&vm, |xml| {
        let source = format!("<source file='{}'/>", vm.disk_path("vda").display());
        let volume = format!("<source pool='{pool}' volume='vda.qcow2'/>");
        xml.replace(&source, &volume).replace("<disk type='file'", "<disk type='volume'")
    });
    vm.start_paused();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut chain = Chain::new(&lab);
        vm.write("vda", 0, MIB, 1).expect("a write");
        chain.ours(&vm);
        vm.write("vda", 2 * MIB, MIB, 2).expect("a write");
        vm.write_zeroes("vda", 0, 65536, true).expect("zeros");
        chain.ours(&vm);
        let set = lab.chain_dir(&vm);
        for point in chain.points.iter() {
            let raw = extract(&lab, &set, "vda", Some(&point.name));
            assert_eq!(point.disks["vda"].equals(&raw), Ok(()), "{}", point.name);
        }
        vm.destroy();
        let copy = lab.run_well(&vm);
        assert_eq!(copy.level(), "copy", "{}", copy.why());
        assert_eq!(vm.shadow("vda").equals(&extract(&lab, &set, "vda", Some("copy"))), Ok(()));
    }));
    virsh(&["pool-destroy", &pool]);
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

#[test]
fn a_vm_that_is_off() {
    let lab = Lab::configured("off");
    let vm = lab.define(
        &VmSpec::new("off").disk(DiskSpec::new("vda", 6 * MIB + 512)).disk(DiskSpec::new("vdb", 2 * MIB)),
    );
    let write = |target: &str, offset: u64, len: u64, pattern: u8| {
        vm.run_while_off(target, &[DiskOp::Write { offset, len, pattern }]);
    };
    write("vda", 6 * MIB, 512, 1);
    let mut chain = Chain::new(&lab);
    let first = lab.run_well(&vm);
    assert_eq!((first.level(), first.why()), ("copy".to_owned(), "the VM is shut off".to_owned()));
    chain.points.note_copy(&lab, &vm);

    let skipped = lab.run_well(&vm);
    assert_eq!(skipped.level(), "skip", "{}", skipped.why());

    // Changed: another copy, and the one before goes to the archive.
    write("vdb", MIB, 65536, 2);
    chain.ours_anew(&vm, "copy", "the VM is shut off");
    assert_eq!(lab.run_well(&vm).level(), "skip");

    // On: a chain of its own.
    vm.start_paused();
    chain.ours_anew(&vm, "full", "the last backup is a copy made while the VM was shut off");
    vm.write("vda", 0, MIB, 3).expect("a write");
    chain.ours(&vm);

    // Off with nothing written since: a copy all the same, and the chain is kept.
    vm.destroy();
    chain.ours_anew(&vm, "copy", "the VM is shut off");
    chain.assert(&vm);
}
