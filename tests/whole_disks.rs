//! Disks that keep no dirty bitmaps, raw or qcow2 of version 2, alone and beside others; and images that may be missing.

use std::fs;
use std::path::{Path, PathBuf};

use lab::{DiskFormat, DiskSpec, Ended, History, Lab, Version, Vm, VmSpec, extract, text};
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

const RAW: (&str, &str) = ("BACKUP_RAW_DISKS", "true");

fn raw(target: &str) -> DiskSpec {
    DiskSpec::new(target, 2 * MIB).format(DiskFormat::Raw)
}

fn archives(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join(".archives")).into_iter().flatten().flatten();
    let mut found: Vec<_> = found.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Backs up, and expects a copy of all disks as they are.
#[track_caller]
fn copied(lab: &Lab, vm: &Vm) -> Ended {
    let now = History::disks(lab, vm);
    let ended = lab.run_well(vm);
    assert_eq!((ended.level().as_str(), ended.vm_status().as_str()), ("copy", "ok"), "{ended:#?}");
    assert_eq!((ended.report("points").as_str(), ended.warnings().as_str()), ("1", ""), "{ended:#?}");
    assert_holds(lab, vm, &now);
    ended
}

#[track_caller]
fn assert_holds(lab: &Lab, vm: &Vm, disks: &lab::Disks) {
    let dir = lab.chain_dir(vm);
    for (target, shadow) in disks {
        let file = extract(lab, &dir, target, Some("copy"));
        assert_eq!(shadow.equals(&file), Ok(()), "{target}");
    }
    let verified = lab.vmstream(&["verify", "--deep", dir.to_str().expect("text")]);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn a_vm_that_runs_on_raw_disks_alone_is_copied() {
    let lab = Lab::new("raw_alone");
    lab.configure(&[RAW]);
    let vm = lab.define(&VmSpec::new("raw").disk(raw("vda")).disk(raw("vdb")));
    vm.start_paused();
    vm.resume();
    vm.write("vda", 0, MIB, 1).expect("a write");
    let ended = copied(&lab, &vm);
    assert_eq!(ended.report("method"), "paused", "held still as for any other backup");
    assert_eq!(ended.disks()[0], "vda: copied: the whole disk: no disk of the VM keeps dirty bitmaps");
    assert_eq!(vm.checkpoints(), Vec::<String>::new());
    let dir = lab.chain_dir(&vm);
    assert!(dir.join("vda.copy.data").exists() && dir.join("vmconfig.copy.xml").exists());
    // The next one takes its place, and it goes to the archive.
    vm.write("vdb", MIB, 4096, 2).expect("a write");
    let first = History::disks(&lab, &vm);
    copied(&lab, &vm);
    assert_eq!(archives(&dir).len(), 1);
    // What the guest writes while it is read does not count.
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    vm.write("vda", MIB, 4096, 3).expect("a write");
    run.release();
    assert!(run.wait().status.success());
    assert_holds(&lab, &vm, &first);
    // Without the setting there is nothing of it to be had, and that is how it is told.
    lab.configure(&[]);
    let error = lab.run(&vm).error();
    assert!(
        error.contains("no disk that can be backed up") && error.contains("BACKUP_RAW_DISKS=true"),
        "{error}"
    );
    lab.configure(&[RAW]);
    vm.destroy();
    copied(&lab, &vm);
    assert_eq!(lab.run_well(&vm).level(), "skip");
    // To be incremental: there is nothing that an increment could be of.
    lab.configure(&[RAW, ("OFFLINE_MODE", "incremental"), ("SKIP_OFFLINE_UNCHANGED_BACKUPS", "no")]);
    copied(&lab, &vm);
}

#[test]
fn a_copy_of_a_vm_that_runs_is_undone_or_ended_whatever_happens() {
    let lab = Lab::new("raw_trouble");
    lab.configure(&[RAW]);
    let vm = lab.define(&VmSpec::new("raw").disk(raw("vda")));
    vm.start_paused();
    vm.resume();
    vm.write("vda", 0, MIB, 1).expect("a write");
    copied(&lab, &vm);
    let before = History::disks(&lab, &vm);
    for place in [FailPoint::JournalWritten, FailPoint::Begun, FailPoint::Copying, FailPoint::FilesWritten] {
        vm.write("vda", MIB, 4096, 2).expect("a write");
        assert!(!lab.run_killed_at(&vm, place).wait().status.success(), "{place}");
        vm.wait_for_state("running", std::time::Duration::from_secs(60));
        assert_holds(&lab, &vm, &before);
    }
    copied(&lab, &vm);
    assert!(vm.backup_job().is_none());
    // It is shut off while it is read: what its images hold then is the copy.
    let now = History::disks(&lab, &vm);
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    vm.destroy();
    let mut run = run;
    run.release();
    run.wait_held();
    run.release();
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_holds(&lab, &vm, &now);
}

#[test]
fn a_qcow2_image_of_version_2_costs_only_itself() {
    let lab = Lab::configured("v2");
    let old = |target: &str| DiskSpec::new(target, 2 * MIB).format(DiskFormat::Qcow2V2);
    let spec = VmSpec::new("v2").disk(DiskSpec::new("vda", 2 * MIB)).disk(old("vdb"));
    let vm = lab.define(&spec);
    vm.start_paused();
    let why = "the whole disk: a qcow2 image of version 2 (compat 0.10) keeps no dirty bitmaps";
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm.write("vdb", 0, MIB, 2).expect("a write");
    let mut history = History::default();
    let mut back_up = |level: &str, since: Option<&str>| {
        history.note(&lab, &vm);
        let ended = lab.run_well(&vm);
        assert_eq!(ended.level(), level, "{}", ended.why());
        let said = ended.disks();
        let changes = since.map_or("the whole disk".to_owned(), |since| format!("changes since {since}"));
        assert_eq!(said[0], format!("vda: backed_up: {changes}"));
        assert!(said[1].starts_with(&format!("vdb: backed_up: {why}")), "{said:?}");
        let dir = lab.chain_dir(&vm);
        history.assert_restorable(&lab, &dir);
        for version in Version::ALL {
            history.assert_virtnbdrestore(&lab, version, &dir);
        }
    };
    back_up("full", None);
    vm.write("vda", MIB, 4096, 3).expect("a write");
    // Zeros where the chain holds data.
    vm.write_zeroes("vdb", 0, 128 << 10, true).expect("zeros");
    vm.write("vdb", MIB, 64 << 10, 4).expect("a write");
    back_up("incremental 1", Some("virtnbdbackup.0"));
    vm.destroy();
    vm.start_paused();
    vm.write_zeroes("vdb", MIB, 64 << 10, true).expect("zeros");
    back_up("incremental 2", Some("virtnbdbackup.1"));
    let dir = lab.chain_dir(&vm);
    let verified = lab.vmstream(&["verify", "--deep", dir.to_str().expect("text")]);
    assert!(verified.status.success(), "{}", text(&verified));
    // Shut off in the middle of an increment: there is no bitmap to be looked for in the old image.
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    vm.destroy();
    run.release();
    assert_eq!(run.wait().level(), "incremental 3");
    history.note(&lab, &vm);
    history.assert_restorable(&lab, &dir);
    // Started for its backup: the others keep bitmaps.
    lab.configure(&[("OFFLINE_MODE", "incremental"), ("SKIP_OFFLINE_UNCHANGED_BACKUPS", "no")]);
    history.note(&lab, &vm);
    assert_eq!(lab.run_well(&vm).level(), "incremental 4");
    history.assert_restorable(&lab, &dir);
    // Alone there can be no chain.
    let alone = lab.define(&VmSpec::new("alone").disk(old("vda")));
    let ended = lab.run_well(&alone);
    assert!(ended.level() == "copy" && ended.warnings().contains("qcow2 image of version 2"), "{ended:#?}");
    lab.configure(&[]);
    alone.start_paused();
    alone.write("vda", 0, MIB, 5).expect("a write");
    copied(&lab, &alone);
}

#[test]
fn an_image_that_may_be_missing_costs_only_itself() {
    let lab = Lab::configured("optional");
    let image = lab.path().join("optional.qcow2");
    let make = || {
        let mut command = std::process::Command::new("qemu-img");
        lab::must(command.args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1M"));
    };
    make();
    let source = format!("<source file='{}' startupPolicy='optional'/>", image.display());
    let optional = DiskSpec::new("vdb", MIB).made(&image, "file", &source);
    let vm = lab.define(&VmSpec::new("optional").disk(DiskSpec::new("vda", MIB)).disk(optional));
    let reason = format!(
        "vdb: its image was not there ({}), and the VM does without it (startupPolicy='optional')",
        image.display()
    );
    let restored = || {
        let file = extract(&lab, &lab.chain_dir(&vm), "vda", None);
        assert_eq!(vm.shadow("vda").equals(&file), Ok(()));
    };
    let told = |point: &str| {
        let facts = lab.chain_dir(&vm).join(format!(".identity.{point}.json"));
        let facts: serde_json::Value =
            serde_json::from_slice(&fs::read(facts).expect("facts")).expect("JSON");
        let left_out = &facts["left_out"][0];
        let words = |key: &str| left_out[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(format!("{}: {}", words("disk"), words("reason")), reason, "{facts:#}");
        assert_eq!(facts["disks"], serde_json::json!(["vda"]));
    };
    fs::remove_file(&image).expect("the lab's image");
    // Off, and running: libvirt has left the disk out of what runs.
    let ended = lab.run_well(&vm);
    assert_eq!((ended.level(), ended.left_out()), ("copy".into(), reason.clone()), "{ended:#?}");
    restored();
    told("copy");
    vm.start_paused();
    vm.write("vda", 0, 4096, 1).expect("a write");
    let ended = lab.run_well(&vm);
    assert_eq!((ended.level(), ended.left_out()), ("full".into(), reason.clone()), "{ended:#?}");
    restored();
    told("virtnbdbackup.0");
    // It comes back, with the next start.
    make();
    vm.destroy();
    vm.start_paused();
    vm.write("vdb", 0, 4096, 2).expect("a write");
    let ended = lab.run_well(&vm);
    assert_eq!((ended.level(), ended.left_out()), ("incremental 1".into(), String::new()), "{ended:#?}");
    let file = extract(&lab, &lab.chain_dir(&vm), "vdb", None);
    assert_eq!(vm.shadow("vdb").equals(&file), Ok(()));
    // One that must be there is missed.
    vm.destroy();
    fs::remove_file(vm.disk_path("vda")).expect("the lab's image");
    assert!(!lab.run(&vm).status.success());
}

#[test]
fn copies_of_raw_images_alone_go_when_they_are_due() {
    let lab = Lab::new("raw_due");
    lab.configure(&[RAW, ("DEFAULT_ROTATION_POLICY", "daily"), ("RETENTION_DAYS", "2")]);
    let vm = lab.define(&VmSpec::new("raw").disk(raw("vda")));
    vm.start_paused();
    for day in 1..5 {
        let ended = lab.run_at(&format!("2026-11-{day:02}T10:00:00Z"), &[&vm]);
        assert!(ended.status.success(), "{ended:#?}");
    }
    let found = fs::read_dir(lab.vm_dir(&vm)).expect("a folder").flatten();
    let mut found: Vec<_> = found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.retain(|name| name.starts_with("2026"));
    found.sort();
    assert_eq!(found, ["20261103", "20261104"]);
}
