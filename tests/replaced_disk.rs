//! A disk whose image is a new one while the chain goes on.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use lab::{Bed, DiskOp, DiskSpec, Ended, Lab, Vm, VmSpec, extract, must, text};

const MIB: u64 = 1 << 20;

const ZEROS: DiskOp = DiskOp::WriteZeroes { offset: 0, len: 4 * MIB, unmap: true };

const REPLACED: &str = "vdb: backed_up: the whole disk: its image was replaced";

/// Gives a disk of a VM that is off a new, empty image.
fn replace_image(vm: &Vm, target: &str, bytes: u64) {
    let image = vm.disk_path(target);
    fs::remove_file(&image).expect("the lab's image");
    must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg(bytes.to_string()));
}

/// The same, of its size and with this content.
fn replace_content(vm: &Vm, target: &str, ops: &[DiskOp]) {
    replace_image(vm, target, 4 * MIB);
    vm.run_while_off(target, &[&[ZEROS], ops].concat());
}

fn write(offset: u64, len: u64, pattern: u8) -> DiskOp {
    DiskOp::Write { offset, len, pattern }
}

fn disks() -> [DiskSpec; 2] {
    ["vda", "vdb"].map(|target| DiskSpec::new(target, 4 * MIB))
}

#[test]
fn a_disk_with_a_new_image_of_its_size_is_added_and_every_point_is_exact() {
    let lab = Lab::configured("new_image");
    let mut bed = Bed::of(&lab, lab.paused_vm("vm", &disks()));
    bed.vm.write("vda", 0, MIB, 1).expect("a write");
    bed.vm.write("vdb", 0, 2 * MIB, 2).expect("a write");
    bed.run_as_it_is("first", "full", "first backup");
    bed.vm.write("vdb", 3 * MIB, 4096, 3).expect("a write");
    bed.run_as_it_is("second", "incremental 1", "the chain continues");
    bed.vm.destroy();
    // Data where there were zeros, zeros where there was data, and data over data.
    replace_content(&bed.vm, "vdb", &[write(MIB, MIB / 2, 4), write(5 * MIB / 2, MIB, 5)]);
    bed.vm.start_paused();
    bed.vm.write("vda", MIB, 4096, 6).expect("a write");
    let ended = bed.run_as_it_is("replaced", "incremental 2", "the chain continues");
    assert_eq!(ended.disks(), ["vda: backed_up: changes since virtnbdbackup.1", REPLACED]);
    assert!(ended.warnings().contains("the image of disk vdb was replaced"), "{}", ended.warnings());
    // It goes on as any other.
    bed.vm.write_zeroes("vdb", MIB, 64 << 10, true).expect("zeros");
    bed.vm.write("vdb", 0, 4096, 7).expect("a write");
    let ended = bed.run_as_it_is("the next", "incremental 3", "the chain continues");
    assert_eq!(ended.warnings(), "");
    lab.assert_points(&bed.dir(), &bed.points);
    let verified = lab.vmstream(&["verify", "--deep", bed.dir().to_str().expect("text")]);
    assert!(verified.status.success(), "{}", text(&verified));

    // Of another size, or with no other disk that goes on: a full of all.
    bed.vm.destroy();
    replace_image(&bed.vm, "vdb", 5 * MIB);
    bed.vm.start_paused();
    bed.run_as_it_is("of another size", "full", "disk vdb was resized");
    bed.vm.destroy();
    replace_image(&bed.vm, "vda", 4 * MIB);
    replace_image(&bed.vm, "vdb", 5 * MIB);
    bed.vm.start_paused();
    bed.run_as_it_is("all of them", "full", "a dirty bitmap is lost");
}

/// Backs up a VM that is started for it: this level for this reason, as a dry run said.
#[track_caller]
fn started(bed: &mut Bed<'_>, case: &str, level: &str, why: &str) -> Ended {
    let planned = bed.plan();
    let ended = bed.back_up(level);
    assert!(ended.why().contains(why), "{case}: {why:?} is not in {:?}", ended.why());
    let done = &ended.vm()["report"]["plan"];
    for part in ["decision", "notes"] {
        assert_eq!(planned["plan"][part], done[part], "{case}: planned otherwise");
    }
    ended
}

#[test]
fn a_vm_that_is_started_for_its_backup_gets_what_its_images_said_before() {
    let lab = Lab::new("new_image_off");
    lab.configure(&[("OFFLINE_MODE", "incremental")]);
    let spec = disks().into_iter().fold(VmSpec::new("vm"), VmSpec::disk);
    let mut bed = Bed::of(&lab, lab.define(&spec));
    let change = |vm: &Vm, pattern: u8| vm.run_while_off("vda", &[write(MIB, 4096, pattern)]);
    bed.vm.run_while_off("vda", &[write(0, MIB, 1)]);
    bed.vm.run_while_off("vdb", &[write(0, 2 * MIB, 2)]);
    started(&mut bed, "first", "full", "first backup");
    change(&bed.vm, 3);
    replace_content(&bed.vm, "vdb", &[write(MIB, 2 * MIB, 4)]);
    let ended = started(&mut bed, "replaced", "incremental 1", "the chain continues");
    assert_eq!(ended.disks()[1], REPLACED);

    // One that was restored from a backup is a new image too.
    let (dir, image) = (bed.dir(), bed.vm.disk_path("vdb"));
    let (folder, file) = (dir.to_str().expect("text"), image.to_str().expect("text"));
    fs::remove_file(&image).expect("the lab's image");
    let ended = lab.vmstream(&[
        "extract",
        folder,
        "--disk",
        "vdb",
        "--until",
        "virtnbdbackup.0",
        "--format",
        "qcow2",
        "-o",
        file,
    ]);
    assert!(ended.status.success(), "{}", text(&ended));
    bed.vm.shadow("vdb").write(0, &fs::read(bed.vm.read_out("vdb")).expect("a raw file"));
    change(&bed.vm, 5);
    let ended = started(&mut bed, "restored", "incremental 2", "the chain continues");
    assert_eq!(ended.disks()[1], REPLACED);
    change(&bed.vm, 6);
    bed.vm.run_while_off("vdb", &[write(0, 4096, 7)]);
    started(&mut bed, "the next", "incremental 3", "the chain continues");
    lab.assert_points(&dir, &bed.points);

    // One whose bitmaps a program has made invalid, or has removed in part, is no new image.
    let image = &image;
    let lose: [(&str, &dyn Fn()); 2] = [
        ("a program that knows no bitmaps has cleared their mark", &|| {
            let file = File::options().write(true).open(image).expect("an image");
            file.write_all_at(&[0; 8], 88).expect("the header has autoclear features there");
        }),
        ("a bitmap is removed, that of the chain is not", &|| {
            must(Command::new("qemu-img").args(["bitmap", "--remove"]).arg(image).arg("virtnbdbackup.0"));
        }),
    ];
    for (case, lose) in lose {
        change(&bed.vm, 8);
        lose();
        started(&mut bed, case, "full", "a dirty bitmap is lost");
        lab.assert_points(&dir, &bed.points);
    }
}

#[test]
fn a_vm_that_is_off_is_copied_with_its_new_image() {
    let lab = Lab::configured("new_image_copy");
    let mut bed = Bed::of(&lab, lab.paused_vm("vm", &disks()));
    bed.vm.write("vdb", 0, 2 * MIB, 1).expect("a write");
    bed.run_as_it_is("first", "full", "first backup");
    bed.vm.destroy();
    replace_content(&bed.vm, "vdb", &[write(MIB, 2 * MIB, 2)]);
    let ended = lab.run_well(&bed.vm);
    assert_eq!(ended.level(), "copy");
    bed.assert_points("before", Path::new(&ended.report("archived_to")), &bed.points);
    let copied = extract(&lab, &bed.dir(), "vdb", Some("copy"));
    assert_eq!(bed.vm.shadow("vdb").equals(&copied), Ok(()));
}
