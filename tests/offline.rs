//! VMs that are shut off: what tells that they changed, and what is taken then.

mod lab;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use lab::{DiskOp, DiskSpec, Ended, Lab, Shadow, Vm, VmSpec, extract, must};

const MIB: u64 = 1 << 20;

fn qemu_img(directory: &Path, arguments: &[&str]) {
    must(Command::new("qemu-img").args(arguments).current_dir(directory));
}

/// What the guest would read, of a VM whose images the lab does not know.
fn content(vm: &Vm, target: &str) -> Shadow {
    Shadow::open(&vm.read_out(target))
}

#[track_caller]
fn assert_copy_is(lab: &Lab, vm: &Vm, set: &Path, want: &Shadow, case: &str) {
    let raw = extract(lab, set, "vda", Some("copy"));
    assert_eq!(want.equals(&raw), Ok(()), "{case}: vda of {} in {}", vm.name(), set.display());
    fs::remove_file(raw).expect("ours");
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|meta| meta.modified()).expect("a file")
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a file");
}

/// A VM on `vda.qcow2`, backed by `middle.qcow2` and that by `base.qcow2`, whose data is in `base.data`.
fn layered_vm(lab: &Lab) -> (Vm, PathBuf) {
    let vm = lab.define(&VmSpec::new("layered").disk(DiskSpec::new("vda", 2 * MIB)));
    let dir = vm.directory().to_owned();
    fs::remove_file(vm.disk_path("vda")).expect("the lab's image");
    let data_file = format!("data_file={}", dir.join("base.data").display());
    qemu_img(&dir, &["create", "-q", "-f", "qcow2", "-o", &data_file, "base.qcow2", "2M"]);
    write(&dir.join("base.qcow2"), 0);
    qemu_img(&dir, &["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "middle.qcow2"]);
    write(&dir.join("middle.qcow2"), 1);
    qemu_img(&dir, &["create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", "vda.qcow2"]);
    (vm, dir)
}

/// Writes 64 KiB at a multiple of them.
fn write(image: &Path, at: u64) {
    let write = format!("write -P {} {}k 64k", at + 1, at * 64);
    must(Command::new("qemu-io").args(["-f", "qcow2", "-c", &write]).arg(image));
}

#[test]
fn a_change_of_any_file_below_a_disk_is_seen_and_the_copy_before_is_kept() {
    let lab = Lab::new("off_changed");
    lab.configure(&[]);
    let (vm, dir) = layered_vm(&lab);
    let file = |name: &str| dir.join(name);
    let first = lab.run_well(&vm);
    assert_eq!(first.level(), "copy");
    let mut before = content(&vm, "vda");
    let same_time = |name: &str, change: &dyn Fn(&Path)| {
        let time = modified(&file(name));
        change(&file(name));
        set_modified(&file(name), time);
    };
    let cases: [(&str, &dyn Fn()); 7] = [
        ("the image is written", &|| write(&file("vda.qcow2"), 2)),
        ("the file that backs it", &|| write(&file("middle.qcow2"), 3)),
        ("the file below that", &|| set_modified(&file("base.qcow2"), SystemTime::UNIX_EPOCH)),
        ("its data file", &|| write(&file("base.qcow2"), 4)),
        ("another file of that time", &|| {
            must(Command::new("cp").arg("-p").arg(file("middle.qcow2")).arg(file("other")));
            fs::rename(file("other"), file("middle.qcow2")).expect("a file");
        }),
        ("a snapshot, the time set back", &|| {
            same_time("vda.qcow2", &|path| {
                qemu_img(&dir, &["snapshot", "-q", "-c", "s", path.to_str().expect("text")])
            });
        }),
        ("the definition", &|| {
            must(Command::new("virsh").args([
                "-q",
                "-c",
                "qemu:///system",
                "desc",
                vm.name(),
                "--config",
                "x",
            ]));
        }),
    ];
    for (case, change) in cases {
        let skipped = lab.run_well(&vm);
        assert_eq!(
            (skipped.level(), skipped.vm_status()),
            ("skip".into(), "skipped".into()),
            "before {case}: {skipped:#?}"
        );
        change();
        let ended = lab.run_well(&vm);
        assert_eq!((ended.level().as_str(), ended.why().as_str()), ("copy", "the VM is shut off"), "{case}");
        assert_copy_is(&lab, &vm, Path::new(&ended.report("archived_to")), &before, case);
        before = content(&vm, "vda");
        assert_copy_is(&lab, &vm, &lab.chain_dir(&vm), &before, case);
    }
    let rows = "SELECT status, backup_type, backup_method, error_message, event_type, restore_points FROM vm_backups \
                WHERE status = 'skipped'";
    let rows = lab.ask(rows);
    assert_eq!(rows.len(), cases.len());
    assert!(
        rows.iter().all(|row| row == "skipped|none|offline|offline unchanged|backup_skipped|1"),
        "{rows:?}"
    );
    let last = "SELECT vms_total, vms_success, vms_skipped, status FROM sessions WHERE vms_skipped > 0 ORDER BY id DESC LIMIT 1";
    assert_eq!(lab.ask(last), ["1|0|1|success"]);
}

#[test]
fn the_keys_about_unchanged_vms_do_what_they_say() {
    let lab = Lab::new("off_keys");
    let vm = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", 2 * MIB)));
    vm.run_while_off("vda", &[DiskOp::Write { offset: 0, len: MIB, pattern: 1 }]);
    let level_with = |keys: &[(&str, &str)]| {
        lab.configure(keys);
        let ended: Ended = lab.run_well(&vm);
        ended.level()
    };
    assert_eq!(level_with(&[]), "copy");
    assert_eq!(level_with(&[]), "skip");
    let threshold = "OFFLINE_CHANGE_DETECTION_THRESHOLD";
    assert_eq!(level_with(&[(threshold, "3600")]), "copy", "written less than an hour ago");
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(7200);
    set_modified(&vm.disk_path("vda"), long_ago);
    assert_eq!(level_with(&[(threshold, "3600")]), "copy", "its time is another");
    assert_eq!(level_with(&[(threshold, "3600")]), "skip");
    assert_eq!(level_with(&[("SKIP_OFFLINE_UNCHANGED_BACKUPS", "false")]), "copy");
    assert_eq!(level_with(&[]), "skip");
}
