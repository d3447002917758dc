//! The tripwire: what no bitmap tells makes a full of an increment, and nothing else does.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{
    Bed, DiskSpec, Ended, History, Lab, Version, Vm, must, text, virsh, wait_for_guard, wait_for_the_clock,
};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

/// Where a disk of the tests holds data that only the first point has read.
const OLD_DATA: u64 = 3 * MIB;

/// The end of it, in the last granule with data: that one is always read, others by chance.
const LAST_OLD_DATA: u64 = OLD_DATA + MIB / 2 - 512;

const NOTHING_SAYS_SO: &str =
    "and nothing says that it changed: the bitmap missed a change, or the image changed beneath QEMU";

/// A VM of two disks: vda has old data behind its first MiB, of which the bed writes to the beginning only.
fn bed(lab: &Lab) -> Bed<'_> {
    let bed = Bed::with(lab, &[DiskSpec::new("vda", 4 * MIB), DiskSpec::new("vdb", MIB)]);
    bed.vm.write("vda", OLD_DATA, MIB / 2, 0xda).expect("a write");
    bed
}

/// Loses the old data of vda, and no bitmap of it.
fn shrink_and_grow_back(vm: &Vm) {
    vm.resize_disk("vda", OLD_DATA);
    vm.resize_disk("vda", 4 * MIB);
}

/// Backs up, and expects a full because vda had changed unseen.
#[track_caller]
fn trip(bed: &mut Bed, lab: &Lab, at: u64) -> Ended {
    bed.change();
    let ended = lab.run_well(&bed.vm);
    let why = format!("disk vda is at offset {at} not what the last restore point holds, {NOTHING_SAYS_SO}");
    assert_eq!((ended.level(), ended.why()), ("full".to_owned(), why), "{ended:#?}");
    bed.points = History::of(lab, &bed.vm);
    ended
}

/// Shows that the wire was taut all the time.
#[track_caller]
fn assert_it_trips_now(bed: &mut Bed, lab: &Lab) {
    shrink_and_grow_back(&bed.vm);
    trip(bed, lab, OLD_DATA);
    bed.assert_points("begun anew", &bed.dir(), &bed.points);
}

#[test]
fn a_disk_that_was_shrunk_and_grown_back_between_two_runs_begins_a_new_chain() {
    let lab = Lab::configured("shrunk");
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    bed.run("third", "incremental 2", "continues");
    let before = std::mem::take(&mut bed.points);
    shrink_and_grow_back(&bed.vm);
    let ended = trip(&mut bed, &lab, OLD_DATA);
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    let warnings = ended.warnings();
    for words in [
        format!("disk vda changed at offset {OLD_DATA} and nothing said so").as_str(),
        "Restore points virtnbdbackup.1 to virtnbdbackup.2 of the chain that was archived are doubtful",
        "It is kept until you release it",
    ] {
        assert!(warnings.contains(words), "{words:?} is not in {warnings}");
    }
    assert!(!warnings.contains("second chain in a row"), "{warnings}");
    assert_eq!(
        lab.ask("SELECT archive_reason FROM chain_events WHERE event_type = 'chain_archived'"),
        ["changed_unseen"]
    );
    assert_eq!(lab.ask("SELECT chain_status, purge_eligible FROM chain_health"), ["active|0"]);
    assert!(bed.vm.backup_job().is_none());
    assert_eq!(bed.vm.checkpoints(), ["virtnbdbackup.0"]);
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("the new chain", &bed.dir(), &bed.points);
}

#[test]
fn a_trip_whose_full_fails_is_told_by_the_full_of_the_next_run() {
    let lab = Lab::configured("full_failed");
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    let before = std::mem::take(&mut bed.points);
    shrink_and_grow_back(&bed.vm);
    bed.change();
    // The increment never gets there.
    let ended = lab.run_killed_at(&bed.vm, FailPoint::FilesWritten).wait();
    assert!(!ended.status.success(), "{ended:#?}");
    let note = lab.backup_path().join("_state/changed-unseen").join(bed.vm.name());
    let note =
        fs::read_to_string(&note).unwrap_or_else(|error| panic!("{error}: {} {ended:#?}", note.display()));
    assert!(note.starts_with("vda ") && note.ends_with(" first virtnbdbackup.1\n"), "{note}");
    wait_for_guard(&lab, &bed.vm);
    // That full has removed the chain's checkpoints, so nothing trips again.
    let ended = bed.run("the next run", "full", "no longer has");
    let warnings = ended.warnings();
    for words in [
        format!("disk vda changed at offset {OLD_DATA} and nothing said so").as_str(),
        "Restore point virtnbdbackup.1 of the chain that was archived is doubtful",
    ] {
        assert!(warnings.contains(words), "{words:?} is not in {warnings}");
    }
    assert!(!warnings.contains("second chain in a row"), "{warnings}");
    bed.assert_points("archived", Path::new(&ended.report("archived_to")), &before);
    assert_eq!(lab.ask("SELECT chain_status, purge_eligible FROM chain_health"), ["active|0"]);
    bed.run("and on", "incremental 1", "continues");
}

#[test]
fn what_trips_twice_in_a_row_has_a_standing_cause_and_can_be_switched_off() {
    const PATCHED: u64 = MIB + MIB / 2;
    let lab = Lab::configured("standing");
    let mut bed = bed(&lab);
    bed.vm.write("vda", PATCHED, 64 << 10, 1).expect("a write");
    let patch = |bed: &Bed| {
        bed.vm.destroy();
        patch(&bed.vm, "vda", PATCHED + 1024);
        bed.vm.start();
    };
    bed.run("first", "full", "first backup");
    shrink_and_grow_back(&bed.vm);
    let standing =
        |ended: &Ended| ended.warnings().contains("the second chain in a row, so there is a standing cause");
    assert!(!standing(&trip(&mut bed, &lab, OLD_DATA)));
    bed.run("an increment that is well ends the row", "incremental 1", "continues");
    patch(&bed);
    assert!(!standing(&trip(&mut bed, &lab, PATCHED)));
    patch(&bed);
    let twice = trip(&mut bed, &lab, PATCHED);
    assert!(standing(&twice), "{}", twice.warnings());
    assert!(twice.warnings().contains("VM_TRIPWIRE[\"NAME\"]=\"no\""), "{}", twice.warnings());
    assert!(
        twice.warnings().contains("in doubt nowhere else"),
        "the full itself has read it: {}",
        twice.warnings()
    );

    let overrides = lab.config_dir().join("default/vm_overrides.conf");
    fs::write(&overrides, format!("VM_TRIPWIRE[\"{}\"]=\"no\"\n", bed.vm.name())).expect("it is ours");
    patch(&bed);
    bed.run("switched off", "incremental 1", "continues");
    fs::write(&overrides, format!("VM_TRIPWIRE[\"{}\"]=\"yes\"\n", bed.vm.name())).expect("it is ours");
    let on_again = trip(&mut bed, &lab, PATCHED);
    let words = "Restore point virtnbdbackup.1 of the chain that was archived is doubtful";
    assert!(on_again.warnings().contains(words), "{}", on_again.warnings());
}

#[test]
fn with_repairs_switched_off_a_trip_fails_and_says_why() {
    let lab = Lab::new("no_repair");
    lab.configure(&[("ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION", "no")]);
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    shrink_and_grow_back(&bed.vm);
    let ended = lab.run(&bed.vm);
    assert!(!ended.status.success(), "{ended:#?}");
    for words in [NOTHING_SAYS_SO, "ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION is not yes"] {
        assert!(ended.error().contains(words), "{words:?} is not in {}", ended.error());
    }
    assert_eq!(bed.vm.checkpoints(), ["virtnbdbackup.0"]);
    bed.assert_points("as it was", &bed.dir(), &bed.points);
}

/// Changes bytes of a disk in its image, past QEMU. The VM is off. Returns where the granule of those bytes begins.
fn patch(vm: &Vm, target: &str, at: u64) -> u64 {
    let image = vm.disk_path(target);
    let map = must(Command::new("qemu-img").args(["map", "--output=json"]).arg(&image));
    let map: Vec<Value> = serde_json::from_str(&map).expect("JSON");
    let number = |extent: &Value, key: &str| extent[key].as_u64();
    let place = map.iter().find_map(|extent| {
        let (start, length) = (number(extent, "start")?, number(extent, "length")?);
        (start..start + length).contains(&at).then(|| Some(number(extent, "offset")? + at - start)).flatten()
    });
    let file = File::options().read(true).write(true).open(&image).expect("an image");
    let mut bytes = [0; 512];
    let place = place.unwrap_or_else(|| panic!("{target} has no data at {at}: {map:?}"));
    file.read_exact_at(&mut bytes, place).expect("bytes");
    bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
    file.write_all_at(&bytes, place).expect("a change");
    vm.shadow(target).write(at, &bytes);
    at / (64 << 10) * (64 << 10)
}

#[test]
fn an_image_that_changed_beneath_qemu_begins_a_new_chain() {
    let lab = Lab::configured("beneath");
    let mut bed = bed(&lab);
    bed.vm.write("vda", OLD_DATA + MIB / 2, MIB / 2, 0xdb).expect("a write");
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    // The first granule with data that did not change, and the last one, are read at each run.
    for at in [OLD_DATA + 512, 4 * MIB - 512] {
        bed.vm.destroy();
        let granule = patch(&bed.vm, "vda", at);
        bed.vm.start();
        trip(&mut bed, &lab, granule);
        bed.vm.write("vda", 0, 512, 7).expect("a write");
        bed.run("and on", "incremental 1", "continues");
        bed.assert_points("begun anew", &bed.dir(), &bed.points);
    }
}

#[test]
fn a_vm_that_is_started_for_its_increment_is_watched_too() {
    let lab = Lab::new("started");
    lab.configure(&[("OFFLINE_MODE", "incremental")]);
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    bed.vm.destroy();
    let granule = patch(&bed.vm, "vda", LAST_OLD_DATA);
    let ended = lab.run_well(&bed.vm);
    let why =
        format!("disk vda is at offset {granule} not what the last restore point holds, {NOTHING_SAYS_SO}");
    assert_eq!((ended.level(), ended.why()), ("full".to_owned(), why), "{ended:#?}");
    assert_eq!((ended.report("method").as_str(), bed.vm.state().as_str()), ("started_paused", "shut off"));
    let points = History::of(&lab, &bed.vm);
    bed.assert_points("begun anew", &bed.dir(), &points);
    bed.vm.start();
    bed.points = points;
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
}

#[test]
fn trimmed_and_discarded_ranges_do_not_trip() {
    let lab = Lab::configured("discarded");
    let mut bed = bed(&lab);
    bed.vm.write("vda", MIB, 2 * MIB, 1).expect("a write");
    bed.run("first", "full", "first backup");
    bed.vm.discard("vda", MIB, MIB / 2).expect("a discard");
    bed.vm.discard("vdb", 0, MIB).expect("a discard of all, as of blkdiscard");
    bed.run("discarded", "incremental 1", "continues");
    // Not on boundaries of clusters.
    bed.vm.discard("vda", 2 * MIB - 512, 200 << 10).expect("a discard");
    bed.vm.write_zeroes("vda", 2 * MIB + (300 << 10), 100 << 10, true).expect("zeros");
    bed.run("in parts", "incremental 2", "continues");
    bed.run("and on", "incremental 3", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    assert_it_trips_now(&mut bed, &lab);
}

/// Defines the VM anew with other attributes of its disks' drivers, and starts it.
fn restart_with(vm: &Vm, attributes: &str) {
    vm.destroy();
    let xml = virsh(&["dumpxml", "--inactive", vm.name()]).replace("discard='unmap'", attributes);
    assert!(xml.contains(attributes), "{xml}");
    let file = vm.directory().join("attributes.xml");
    fs::write(&file, xml).expect("a file");
    virsh(&["define", file.to_str().expect("text")]);
    vm.start();
}

#[test]
fn zeros_that_qemu_detects_do_not_trip() {
    let lab = Lab::configured("detected");
    let mut bed = bed(&lab);
    bed.vm.write("vda", MIB, 2 * MIB, 1).expect("a write");
    restart_with(&bed.vm, "discard='unmap' detect_zeroes='unmap'");
    bed.run("first", "full", "first backup");
    bed.vm.write("vda", MIB, MIB, 0).expect("zeros");
    bed.run("zeros", "incremental 1", "continues");
    bed.vm.write("vda", 2 * MIB + 4096, 100 << 10, 0).expect("zeros");
    bed.run("zeros in parts", "incremental 2", "continues");
    bed.run("and on", "incremental 3", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    assert_it_trips_now(&mut bed, &lab);
}

fn snapshot(vm: &Vm, name: &str) {
    virsh(&["snapshot-create-as", vm.name(), name, "--disk-only", "--no-metadata"]);
}

#[test]
fn what_is_copied_on_read_does_not_trip() {
    let lab = Lab::configured("copied_on_read");
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    snapshot(&bed.vm, "one");
    restart_with(&bed.vm, "discard='unmap' copy_on_read='on'");
    bed.run("on the overlay", "incremental 1", "continues");
    assert!(bed.vm.reads_as("vda", OLD_DATA, MIB / 2, 0xda).expect("a read"));
    assert!(bed.vm.reads_as("vda", 2 * MIB, MIB / 2, 0).expect("a read"));
    bed.run("read", "incremental 2", "continues");
    bed.run("and on", "incremental 3", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    assert_it_trips_now(&mut bed, &lab);
}

#[test]
fn commits_and_pulls_do_not_trip() {
    let lab = Lab::configured("committed");
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    snapshot(&bed.vm, "one");
    bed.vm.discard("vda", OLD_DATA, 64 << 10).expect("a discard");
    bed.run("on the overlay", "incremental 1", "continues");
    virsh(&["blockcommit", bed.vm.name(), "vda", "--active", "--pivot", "--wait"]);
    bed.run("committed", "incremental 2", "continues");
    snapshot(&bed.vm, "two");
    bed.vm.write_zeroes("vda", OLD_DATA + (64 << 10), 64 << 10, true).expect("zeros");
    bed.run("on another overlay", "incremental 3", "continues");
    virsh(&["blockpull", bed.vm.name(), "vda", "--wait"]);
    bed.run("pulled", "incremental 4", "continues");
    bed.run("and on", "incremental 5", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    shrink_and_grow_back(&bed.vm);
    trip(&mut bed, &lab, OLD_DATA + (128 << 10));
}

#[test]
fn a_disk_that_grew_is_no_trip() {
    let lab = Lab::configured("grown");
    let mut bed = bed(&lab);
    bed.run("first", "full", "first backup");
    bed.vm.resize_disk("vda", 6 * MIB + 512);
    bed.run("grown", "full", "disk vda was resized");
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    assert_eq!(lab.ask("SELECT purge_eligible FROM chain_health"), ["1"]);
    bed.vm.resize_disk("vda", 2 * MIB);
    bed.vm.resize_disk("vda", 6 * MIB + 512);
    trip(&mut bed, &lab, OLD_DATA);
}

/// Takes the next point of a chain with virtnbdbackup.
#[track_caller]
fn theirs(bed: &mut Bed, lab: &Lab, level: &str, set: &Path) {
    bed.change();
    wait_for_the_clock(set);
    let output = lab.virtnbdbackup(Version::Distribution, &bed.vm, level, set, &[]);
    assert!(output.status.success(), "{level}: {}", text(&output));
    bed.points.note(lab, &bed.vm);
}

#[test]
fn parents_without_sidecars_do_not_trip_and_the_points_behind_them_do() {
    let lab = Lab::new("their_parents");
    lab.configure(&[("COMPRESSION", "none")]);
    let mut bed = bed(&lab);
    bed.run("ours", "full", "first backup");
    let set = bed.dir();
    bed.vm.discard("vda", OLD_DATA, 64 << 10).expect("a discard");
    theirs(&mut bed, &lab, "inc", &set);
    bed.run("behind theirs", "incremental 2", "continues");
    theirs(&mut bed, &lab, "inc", &set);
    // Nothing is known of the old data any more.
    shrink_and_grow_back(&bed.vm);
    bed.run("behind theirs again", "incremental 4", "continues");
    bed.vm.write("vda", OLD_DATA, MIB / 2, 0xde).expect("a write");
    bed.run("known from here on", "incremental 5", "continues");
    bed.run("and on", "incremental 6", "continues");
    assert_it_trips_now(&mut bed, &lab);
}

/// The Bash program moves what it knows to its archive, and virtnbdbackup begins anew in the same folder, beside our sidecars.
#[test]
fn sidecars_that_a_bash_archive_left_behind_do_not_trip() {
    let lab = Lab::new("bash_archive");
    lab.configure(&[("COMPRESSION", "none")]);
    let mut bed = bed(&lab);
    bed.run("ours", "full", "first backup");
    bed.run("ours", "incremental 1", "continues");
    let set = bed.dir();
    let archive = set.join(".archives/chain-2026-11-01");
    fs::create_dir_all(&archive).expect("a folder");
    let entries: Vec<PathBuf> = fs::read_dir(&set).expect("a set").flatten().map(|e| e.path()).collect();
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    for path in entries.iter().filter(|path| ![".archives", "config"].contains(&name(path).as_str())) {
        if !name(path).ends_with(".idx") {
            fs::rename(path, archive.join(name(path))).expect("a move");
        }
    }
    bed.vm.delete_checkpoints();
    bed.points.clear();
    bed.vm.discard("vda", OLD_DATA, MIB / 2).expect("a discard");
    bed.vm.write("vda", MIB, MIB / 2, 0xdc).expect("as much data as before");
    theirs(&mut bed, &lab, "full", &set);
    theirs(&mut bed, &lab, "inc", &set);
    assert!(set.join("vda.full.idx").exists() && set.join("vda.inc.virtnbdbackup.1.idx").exists());
    bed.run("ours behind theirs", "incremental 2", "continues");
    bed.run("and on", "incremental 3", "continues");
    bed.assert_points("in the end", &set, &bed.points);
}
