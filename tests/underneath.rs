//! Images that change underneath a chain: put back from an earlier time, snapshotted, moved.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Bed, DiskSpec, Lab, Vm, must, output_of, text, virsh, wait_for_guard};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const NOVEMBER: Option<&str> = Some("2026-11-03T02:00:00Z");
const DECEMBER: Option<&str> = Some("2026-12-03T02:00:00Z");

/// The image of a disk, and what it holds, as they were while the VM was off.
struct Aside(Vec<(PathBuf, PathBuf)>);

impl Aside {
    /// Switches the VM off for it, and on again. `name` is for the copies.
    fn set(vm: &Vm, target: &str, name: &str) -> Self {
        vm.destroy();
        let files = [vm.disk_path(target), vm.shadow(target).path().to_owned()];
        let copies = files.map(|file| (PathBuf::from(format!("{}.{name}", file.display())), file));
        copies.iter().for_each(|(copy, file)| copy_over(file, copy));
        vm.start();
        Self(copies.into())
    }

    /// Puts the image back while the VM is off, as a person would who wants the earlier state.
    fn put_back(&self, vm: &Vm) {
        vm.destroy();
        self.0.iter().for_each(|(copy, file)| copy_over(copy, file));
        vm.start();
    }
}

/// The image that a disk of a running VM has now.
fn image_of(vm: &Vm, target: &str) -> String {
    let disks = virsh(&["domblklist", vm.name()]);
    let line = disks.lines().find_map(|line| line.trim().strip_prefix(target));
    line.expect("the disk is there").trim().to_owned()
}

/// Copies a file into another, which stays the file that it is.
fn copy_over(from: &Path, to: &Path) {
    must(Command::new("cp").arg(from).arg(to));
}

/// The bitmaps that the image of a VM keeps that is off.
fn bitmaps(image: &Path) -> Vec<String> {
    let info = must(Command::new("qemu-img").args(["info", "--output=json"]).arg(image));
    let info: Value = serde_json::from_str(&info).expect("JSON");
    let all = info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<_> = all.iter().filter_map(|b| b["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

/// The names of the points' bitmaps, and how many chain markers there are.
fn points_and_markers(image: &Path) -> (Vec<String>, usize) {
    let (points, markers): (Vec<_>, Vec<_>) =
        bitmaps(image).into_iter().partition(|name| name.starts_with("virtnbdbackup."));
    (points, markers.iter().filter(|name| name.starts_with("vmbackup-chain-")).count())
}

#[test]
fn an_image_put_back_from_an_earlier_chain_is_noticed_and_one_of_the_same_chain_is_right() {
    let lab = Lab::configured("put_back");
    let mut bed = Bed::new(&lab);
    bed.now = NOVEMBER;
    bed.run("November", "full", "first backup");
    for number in 1..4 {
        bed.run("November", &format!("incremental {number}"), "continues");
    }
    bed.change();
    let earlier = Aside::set(&bed.vm, "vda", "earlier");
    bed.now = DECEMBER;
    bed.run("December", "full", "a new period begins");
    bed.run("December", "incremental 1", "continues");
    bed.run("restarted", "incremental 2", "continues");
    bed.change();
    let same = Aside::set(&bed.vm, "vda", "same");
    bed.change();
    same.put_back(&bed.vm);
    bed.run("put back from the same chain", "incremental 3", "continues");
    bed.assert_points("the same chain", &bed.dir(), &bed.points);

    // It keeps bitmaps virtnbdbackup.0 to 3 of November's chain.
    let before = std::mem::take(&mut bed.points);
    earlier.put_back(&bed.vm);
    lab.configure(&[("ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION", "no")]);
    let why = "the image of disk vda is not the chain's: it was put back from an earlier time";
    let error = bed.plan()["error"].as_str().unwrap_or_default().to_owned();
    for words in [why, "ENABLE_AUTO_RECOVERY"] {
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    lab.configure(&[]);
    let ended = bed.run("put back from November", "full", why);
    assert!(ended.log.contains(why), "{}", ended.log);
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    let archived = "SELECT archive_reason FROM chain_events WHERE event_type = 'chain_archived'";
    assert_eq!(lab.ask(archived), ["disk_replaced"]);
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("the new chain", &bed.dir(), &bed.points);
    bed.vm.destroy();
    for target in bed.vm.targets() {
        let own = ["virtnbdbackup.0", "virtnbdbackup.1"].map(str::to_owned).to_vec();
        assert_eq!(points_and_markers(&bed.vm.disk_path(target)), (own, 1), "{target}");
    }
}

/// Exchanges the contents of two files of a VM that is off. They stay the files that they are, as devices would that have
/// changed names.
fn exchange(one: &Path, other: &Path) {
    let aside = PathBuf::from(format!("{}.aside", one.display()));
    copy_over(one, &aside);
    copy_over(other, one);
    copy_over(&aside, other);
}

/// The image of each disk is that of the other from now on, and its shadow too.
fn exchange_disks(vm: &Vm, one: &str, other: &str) {
    exchange(&vm.disk_path(one), &vm.disk_path(other));
    exchange(vm.shadow(one).path(), vm.shadow(other).path());
}

#[test]
fn images_that_changed_places_begin_a_new_chain() {
    let lab = Lab::configured("exchanged");
    let mut bed = Bed::new(&lab);
    bed.vm.write("vda", 512 << 10, 64 << 10, 0xaa).expect("a write");
    bed.vm.write("vdb", 768 << 10, 64 << 10, 0xbb).expect("a write");
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    bed.vm.destroy();
    bed.vm.start();
    bed.run("restarted", "incremental 2", "continues");
    bed.vm.destroy();
    exchange_disks(&bed.vm, "vda", "vdb");
    bed.vm.start();
    let before = std::mem::take(&mut bed.points);
    let why = "the image of disk vda is that of disk vdb: they have changed places";
    lab.configure(&[("ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION", "no")]);
    let error = bed.plan()["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains(why), "{error:?}");
    lab.configure(&[]);
    let ended = bed.run("exchanged", "full", why);
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    bed.run("and on", "incremental 1", "continues");
    bed.vm.destroy();
    for target in bed.vm.targets() {
        let own = ["virtnbdbackup.0", "virtnbdbackup.1"].map(str::to_owned).to_vec();
        assert_eq!(points_and_markers(&bed.vm.disk_path(target)), (own, 1), "{target}");
    }
    bed.vm.start();
    bed.run("restarted again", "incremental 2", "continues");
    bed.assert_points("the new chain", &bed.dir(), &bed.points);
}

#[test]
fn overlays_that_changed_places_begin_a_new_chain() {
    let lab = Lab::configured("exchanged_overlays");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    let name = bed.vm.name().to_owned();
    virsh(&["snapshot-create-as", &name, "one", "--disk-only", "--no-metadata"]);
    bed.run("on the overlay", "incremental 1", "continues");
    bed.vm.destroy();
    let before = std::mem::take(&mut bed.points);
    let overlay = |target| bed.vm.disk_path(target).with_extension("one");
    exchange(&overlay("vda"), &overlay("vdb"));
    // Each overlay still says on which image it stands, so the disks are exchanged whole.
    exchange(bed.vm.shadow("vda").path(), bed.vm.shadow("vdb").path());
    bed.vm.start();
    let ended = bed.run("exchanged", "full", "the image of disk vda is that of disk vdb");
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("the new chain", &bed.dir(), &bed.points);
}

/// Before 0.6 the chain marker of a chain did not name its disk.
#[test]
fn chains_whose_markers_name_no_disk_go_on() {
    let lab = Lab::configured("old_marker");
    let mut bed = Bed::new(&lab);
    bed.now = NOVEMBER;
    bed.run("first", "full", "first backup");
    bed.vm.destroy();
    for target in bed.vm.targets() {
        let image = bed.vm.disk_path(target);
        let end = format!(".{target}");
        let own = bitmaps(&image).into_iter().find(|name| name.ends_with(&end)).expect("a chain marker");
        let old = own.strip_suffix(&end).expect("its end");
        must(Command::new("qemu-img").args(["bitmap", "--remove"]).arg(&image).arg(&own));
        must(Command::new("qemu-img").args(["bitmap", "--add"]).arg(&image).arg(old));
    }
    bed.vm.start();
    bed.run("restarted", "incremental 1", "continues");
    let earlier = Aside::set(&bed.vm, "vda", "earlier");
    bed.vm.attach_disk(&DiskSpec::new("vdc", 1 << 20));
    bed.run("added", "incremental 2", "continues");
    bed.vm.destroy();
    bed.vm.start();
    bed.run("restarted with it", "incremental 3", "continues");
    bed.assert_points("the old chain", &bed.dir(), &bed.points);
    bed.now = DECEMBER;
    bed.run("December", "full", "a new period begins");
    bed.run("December", "incremental 1", "continues");
    bed.vm.destroy();
    for target in bed.vm.targets() {
        let own = ["virtnbdbackup.0", "virtnbdbackup.1"].map(str::to_owned).to_vec();
        assert_eq!(points_and_markers(&bed.vm.disk_path(target)), (own, 1), "{target}");
    }
    bed.vm.start();
    earlier.put_back(&bed.vm);
    bed.run("put back", "full", "it was put back from an earlier time");
    bed.assert_points("begun anew", &bed.dir(), &bed.points);
}

#[test]
fn a_disk_that_was_added_is_watched_over_too() {
    let lab = Lab::configured("put_back_added");
    let mut bed = Bed::new(&lab);
    bed.now = NOVEMBER;
    bed.run("November", "full", "first backup");
    bed.vm.attach_disk(&DiskSpec::new("vdc", 1 << 20));
    bed.run("added", "incremental 1", "continues");
    let earlier = Aside::set(&bed.vm, "vdc", "earlier");
    bed.run("restarted", "incremental 2", "continues");
    bed.assert_points("with the added disk", &bed.dir(), &bed.points);
    bed.now = DECEMBER;
    bed.run("December", "full", "a new period begins");
    bed.run("December", "incremental 1", "continues");
    earlier.put_back(&bed.vm);
    bed.run("put back", "full", "the image of disk vdc is not the chain's");
    bed.assert_points("begun anew", &bed.dir(), &bed.points);
}

#[test]
fn a_run_that_dies_leaves_no_mark_and_takes_none_from_other_disks() {
    let lab = Lab::configured("killed_marking");
    let mut bed = Bed::new(&lab);
    let die_at = |vm: &Vm, place: FailPoint| {
        let ended = lab.run_killed_at(vm, place).wait();
        assert_eq!(ended.status.signal(), Some(9), "{ended:#?}");
        wait_for_guard(&lab, vm);
    };
    die_at(&bed.vm, FailPoint::MarkerCreated);
    die_at(&bed.vm, FailPoint::Copying);
    bed.run("first", "full", "first backup");
    bed.vm.attach_disk(&DiskSpec::new("vdc", 1 << 20));
    die_at(&bed.vm, FailPoint::MarkerCreated);
    let left = bed.vm.checkpoints();
    assert!(left.len() == 2 && left[1].starts_with("vmbackup-chain-"), "{left:?}");
    let ended = bed.run("undone", "incremental 1", "continues");
    assert!(ended.report("recovered").contains("took back marks"), "{ended:#?}");
    assert_eq!(bed.vm.checkpoints(), ["virtnbdbackup.0", "virtnbdbackup.1"]);
    bed.vm.destroy();
    for target in bed.vm.targets() {
        assert_eq!(points_and_markers(&bed.vm.disk_path(target)).1, 1, "{target}");
    }
    bed.vm.start();
    bed.run("restarted", "incremental 2", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
}

/// Whether libvirt says of a VM that somebody reached past it.
fn is_tainted(vm: &Vm) -> bool {
    virsh(&["dominfo", vm.name()]).contains("tainted")
}

#[test]
fn chains_begin_and_end_without_tainting_the_vm() {
    let lab = Lab::configured("untainted");
    let vm = lab.paused_vm("clean", &[DiskSpec::new("vda", 1 << 20)]);
    let runs = [
        (NOVEMBER, "full"),
        (NOVEMBER, "incremental 1"),
        (DECEMBER, "full"),
        (DECEMBER, "incremental 1"),
        (NOVEMBER, "incremental 2"),
    ];
    for (now, level) in runs {
        let ended = lab.run_at(now.expect("a time"), &[&vm]);
        assert_eq!(ended.level(), level, "{ended:#?}");
        assert!(!is_tainted(&vm), "by {level}");
    }
    vm.write("vda", 0, 512, 1).expect("a write");
    assert!(is_tainted(&vm), "this is what it would look like");
    // December's chain went on: the clock was set back.
    vm.destroy();
    let own: Vec<_> = (0..3).map(|n| format!("virtnbdbackup.{n}")).collect();
    assert_eq!(points_and_markers(&vm.disk_path("vda")), (own, 1));
}

#[test]
fn an_external_snapshot_comes_and_goes_and_the_chain_is_right() {
    let lab = Lab::configured("external_snapshot");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.change();
    let name = bed.vm.name().to_owned();
    virsh(&["snapshot-create-as", &name, "one", "--disk-only", "--no-metadata"]);
    bed.run("on the overlay", "incremental 1", "continues");
    bed.vm.destroy();
    bed.vm.start();
    bed.run("restarted on the overlay", "incremental 2", "continues");
    for target in ["vda", "vdb"] {
        virsh(&["blockcommit", &name, target, "--active", "--pivot", "--wait"]);
    }
    bed.run("committed", "incremental 3", "continues");
    bed.vm.destroy();
    bed.vm.start();
    bed.run("restarted", "incremental 4", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
}

#[test]
fn a_guest_that_shuts_down_after_an_external_snapshot_loses_no_change() {
    let lab = Lab::configured("snapshot_shut_down");
    let mut bed = Bed::new(&lab);
    let name = bed.vm.name().to_owned();
    bed.run("first", "full", "first backup");
    let mut number: u64 = 0;
    for snapshots in [1, 2] {
        for _ in 0..snapshots {
            number += 1;
            // Where nothing is written after the snapshot: a bitmap has one bit for 64 KiB.
            for target in ["vda", "vdb"] {
                bed.vm.write(target, number * (128 << 10), 4096, 0x70 + number as u8).expect("a write");
            }
            virsh(&["snapshot-create-as", &name, &format!("s{number}"), "--disk-only", "--no-metadata"]);
        }
        bed.change();
        let run = lab.run_held_at(&bed.vm, FailPoint::Copying);
        bed.vm.destroy();
        run.release();
        let ended = run.wait();
        assert!(ended.status.success(), "{snapshots}: {ended:#?}");
        assert_eq!(ended.level(), format!("incremental {}", bed.points.len()), "{snapshots}");
        assert!(ended.warnings().contains("was shut down during its backup"), "{}", ended.warnings());
        bed.points.note(&lab, &bed.vm);
        bed.assert_points(&format!("{snapshots} snapshots"), &bed.dir(), &bed.points);
        bed.vm.start();
        bed.run("started again", &format!("incremental {}", bed.points.len()), "continues");
        bed.assert_points("and on", &bed.dir(), &bed.points);
    }
    // The bitmap of an image below was not closed in order: what it says is not all.
    let below = PathBuf::from(image_of(&bed.vm, "vda"));
    bed.change();
    virsh(&["snapshot-create-as", &name, "last", "--disk-only", "--no-metadata"]);
    bed.change();
    let run = lab.run_held_at(&bed.vm, FailPoint::Copying);
    bed.vm.destroy();
    let crash = ["-f", "qcow2", "-c", "write 0 512", "-c", "abort"];
    output_of(Command::new("qemu-io").args(crash).arg(&below));
    run.release();
    let ended = run.wait();
    assert!(!ended.status.success(), "{ended:#?}");
    assert!(ended.error().contains("disk vda did not keep bitmap"), "{}", ended.error());
    bed.assert_points("undone", &bed.dir(), &bed.points);
}

#[test]
fn an_external_snapshot_that_is_reverted_costs_a_full() {
    let lab = Lab::configured("external_revert");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.change();
    let name = bed.vm.name().to_owned();
    let shadows: BTreeMap<String, _> = lab::History::disks(&lab, &bed.vm);
    virsh(&["snapshot-create-as", &name, "one", "--disk-only"]);
    bed.run("on the overlay", "incremental 1", "continues");
    let before = std::mem::take(&mut bed.points);
    virsh(&["snapshot-revert", &name, "one"]);
    for (target, shadow) in &shadows {
        copy_over(shadow.path(), bed.vm.shadow(target).path());
    }
    if bed.vm.state() != "running" {
        bed.vm.start();
    }
    let ended = bed.run("reverted", "full", "a dirty bitmap is lost");
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("begun anew", &bed.dir(), &bed.points);
}

#[test]
fn qemu_reverts_to_no_internal_snapshot_while_there_is_a_chain() {
    let lab = Lab::configured("internal_snapshot");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    let name = bed.vm.name().to_owned();
    bed.vm.destroy();
    virsh(&["snapshot-create-as", &name, "one"]);
    bed.vm.start();
    bed.run("after the snapshot", "incremental 1", "continues");
    bed.vm.destroy();
    let of_qemu =
        output_of(Command::new("qemu-img").args(["snapshot", "-a", "one"]).arg(bed.vm.disk_path("vda")));
    assert!(text(&of_qemu).contains("Device has active dirty bitmaps"), "{}", text(&of_qemu));
    let of_libvirt =
        output_of(Command::new("virsh").args(["-c", "qemu:///system", "snapshot-revert", &name, "one"]));
    assert!(!of_libvirt.status.success(), "{}", text(&of_libvirt));
    bed.vm.start();
    bed.run("nothing was reverted", "incremental 2", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    // Somebody removes the bitmaps so that it can be reverted.
    bed.vm.destroy();
    let before = std::mem::take(&mut bed.points);
    for target in bed.vm.targets() {
        let image = bed.vm.disk_path(target);
        for bitmap in bitmaps(&image) {
            must(Command::new("qemu-img").args(["bitmap", "--remove"]).arg(&image).arg(bitmap));
        }
        must(Command::new("qemu-img").args(["snapshot", "-a", "one"]).arg(&image));
        copy_over(before[0].disks[target].path(), bed.vm.shadow(target).path());
    }
    bed.vm.start();
    let ended = bed.run("reverted", "full", "a dirty bitmap is lost");
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    bed.assert_points("begun anew", &bed.dir(), &bed.points);
}
