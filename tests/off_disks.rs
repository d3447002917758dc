//! Disks of VMs that are off: in use by somebody else, written while they are copied, laid out otherwise than their headers
//! say, damaged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use lab::{DiskFormat, DiskOp, DiskSpec, Ended, Lab, LoopDevice, Vm, VmSpec, extract, must, text};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

/// The exit code of a run in which a VM's backup failed, or holds what is damaged.
const VM: i32 = 5;

const RAW: (&str, &str) = ("BACKUP_RAW_DISKS", "true");

fn qemu_img(arguments: &[&str]) {
    must(Command::new("qemu-img").args(arguments));
}

fn write(image: &Path, format: &str, at: u64, len: u64, pattern: u8) {
    let write = format!("write -P {pattern} {at} {len}");
    must(Command::new("qemu-io").args(["-f", format, "-c", &write]).arg(image));
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("plain names")
}

/// What the newest copy has of a disk.
fn copied(lab: &Lab, vm: &Vm, target: &str) -> Vec<u8> {
    let raw = extract(lab, &lab.chain_dir(vm), target, Some("copy"));
    let bytes = fs::read(&raw).expect("ours");
    fs::remove_file(raw).expect("ours");
    bytes
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_refused(lab: &Lab, vm: &Vm, ended: &Ended, words: &[&str], before: &[String]) {
    let error = ended.error();
    assert_eq!(ended.status.code(), Some(VM), "{ended:#?}");
    for words in words {
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    assert_eq!(names_in(&lab.chain_dir(vm)), before, "{error}");
}

#[test]
fn an_image_that_somebody_else_writes_is_not_copied() {
    let lab = Lab::configured("off_in_use");
    let vm = lab.define(&VmSpec::new("elsewhere").disk(DiskSpec::new("vda", 2 * MIB)));
    let dir = vm.directory().to_owned();
    let file = |name: &str| dir.join(name);
    fs::remove_file(vm.disk_path("vda")).expect("the lab's image");
    let data_file = format!("data_file={}", file("base.data").display());
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data_file, path_text(&file("base.qcow2")), "2M"]);
    let over = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    let (base, image) = (file("base.qcow2"), file("vda.qcow2"));
    qemu_img(&[&over[..], &[path_text(&base), path_text(&image)]].concat());
    write(&file("vda.qcow2"), "qcow2", 0, MIB, 1);
    let files = ["vda.qcow2", "base.qcow2", "base.data"];
    for name in files {
        let writer = lab.nbd_server(&file(name));
        let plan = lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
        assert!(text(&plan).contains("is in use by process"), "{name}: {}", text(&plan));
        let ended = lab.run(&vm);
        assert_refused(
            &lab,
            &vm,
            &ended,
            &["is shut off here", "in use by process", "(qemu-nbd)", name],
            &[],
        );
        drop(writer);
    }
    // Who only reads is no matter.
    let reads = format!("exec 3<'{}'; sleep 1000", file("vda.qcow2").display());
    let mut reader = Command::new("bash").args(["-c", &reads]).spawn().expect("bash");
    let first = lab.run_well(&vm);
    assert_eq!(first.level(), "copy");
    assert_eq!(first.warnings(), "");
    let before = names_in(&lab.chain_dir(&vm));
    reader.kill().and_then(|()| reader.wait()).expect("ours");
    // Neither skipped as unchanged, nor copied with the copy before gone to the archive.
    for changed in [false, true] {
        if changed {
            write(&file("vda.qcow2"), "qcow2", MIB, 65536, 2);
        }
        let writer = lab.nbd_server(&file("vda.qcow2"));
        assert_refused(&lab, &vm, &lab.run(&vm), &["in use by process"], &before);
        drop(writer);
    }
    // Somebody comes while it is copied, and writes nothing.
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    let writer = lab.nbd_server(&file("vda.qcow2"));
    run.release();
    assert_refused(&lab, &vm, &run.wait(), &["in use by process"], &before);
    drop(writer);
    assert_eq!(lab.run_well(&vm).level(), "copy");
    let bytes = copied(&lab, &vm, "vda");
    assert!(bytes[..MIB as usize].iter().all(|byte| *byte == 1));
    assert!(bytes[MIB as usize..][..65536].iter().all(|byte| *byte == 2));
}

#[test]
fn the_image_of_another_vm_that_runs_is_not_copied_nor_started_over() {
    let lab = Lab::new("off_other_vm");
    let owner = lab.running_vm("owner", &[DiskSpec::new("vda", 8 * MIB)]);
    owner.write("vda", 0, 8 * MIB, 7).expect("a write");
    let image = owner.disk_path("vda");
    let second = lab.define(&VmSpec::new("second").disk(DiskSpec::new("vda", 8 * MIB).made_file(&image)));
    for keys in [&[][..], &[("OFFLINE_MODE", "incremental")]] {
        lab.configure(keys);
        let ended = lab.run(&second);
        assert_refused(&lab, &second, &ended, &["in use by process", "(qemu-system-"], &[]);
        assert_eq!(second.state(), "shut off");
    }
    assert_eq!(lab.run_well(&owner).level(), "full");
}

#[test]
fn a_shareable_disk_that_is_in_use_is_left_out() {
    let lab = Lab::new("off_shareable");
    lab.configure(&[RAW]);
    let shared = DiskSpec::new("vdb", MIB).format(DiskFormat::Raw).extra_xml("<shareable/>");
    let vm = lab.define(&VmSpec::new("shares").disk(DiskSpec::new("vda", MIB)).disk(shared));
    vm.run_while_off("vda", &[DiskOp::Write { offset: 0, len: 4096, pattern: 1 }]);
    let writer = lab.nbd_server(&vm.disk_path("vdb"));
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "copy");
    let left_out = ended.left_out();
    assert!(left_out.contains("vdb: shareable disk in use by process"), "{left_out}");
    drop(writer);
    let ended = lab.run_well(&vm);
    assert_eq!((ended.level(), ended.left_out()), ("copy".into(), String::new()), "{ended:#?}");
}

#[test]
fn a_block_device_that_is_written_while_it_is_copied_or_in_use_is_not_believed() {
    let lab = Lab::new("off_device");
    lab.configure(&[RAW]);
    let file = lab.path().join("device");
    File::create(&file).and_then(|file| file.set_len(4 * MIB)).expect("a file");
    let device = LoopDevice::over(&file);
    let source = format!("<source dev='{}'/>", device.text());
    let disk = DiskSpec::new("vda", 4 * MIB).format(DiskFormat::Raw).made(device.path(), "block", &source);
    let vm = lab.define(&VmSpec::new("device").disk(disk));
    // Its node is another where another program has it, as under libvirt.
    let node = Path::new("/dev/shm").join(format!("{}node", lab.prefix()));
    let number = must(Command::new("stat").args(["-c", "%Hr %Lr"]).arg(device.path()));
    let number: Vec<_> = number.trim().split(' ').collect();
    must(Command::new("mknod").arg(&node).arg("b").args(number));
    let writer = lab.nbd_server(&node);
    fs::remove_file(&node).expect("ours");
    assert_refused(&lab, &vm, &lab.run(&vm), &["in use by process", device.text()], &[]);
    drop(writer);

    // Whatever writes, it is gone again when the copy ends.
    let to = format!("of={}", device.text());
    let dd = ["if=/dev/urandom", "bs=4096", "count=1", "conv=notrunc", "status=none", &to];
    let discard = ["-o", "0", "-l", "4096", device.text()];
    let writes: [(&str, &[&str]); 2] = [("dd", &dd), ("blkdiscard", &discard)];
    for (program, arguments) in writes {
        let run = lab.run_held_at(&vm, FailPoint::Copying);
        must(Command::new(program).args(arguments));
        run.release();
        assert_refused(&lab, &vm, &run.wait(), &["its block devices were written"], &[]);
    }
    let untouched = lab.run_held_at(&vm, FailPoint::Copying);
    must(Command::new("sync").arg(device.path()));
    untouched.release();
    let ended = untouched.wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(ended.warnings(), "");
    device.count_writes(false);
    let ended = lab.run_well(&vm);
    device.count_writes(true);
    let want = format!("nobody can tell whether {} was written while it was copied", device.text());
    assert!(ended.warnings().contains(&want), "{}", ended.warnings());
}

#[test]
fn a_disk_that_is_not_copied_may_be_written_meanwhile() {
    let lab = Lab::configured("off_not_copied");
    let raw = DiskSpec::new("vdb", MIB).format(DiskFormat::Raw);
    let vm = lab.define(&VmSpec::new("apart").disk(DiskSpec::new("vda", MIB)).disk(raw));
    vm.run_while_off("vda", &[DiskOp::Write { offset: 0, len: 4096, pattern: 1 }]);
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    write(&vm.disk_path("vdb"), "raw", 0, 4096, 2);
    run.release();
    let ended = run.wait();
    assert_eq!(ended.level(), "copy", "{ended:#?}");
    assert!(ended.left_out().starts_with("vdb: raw disk, not included"), "{ended:#?}");
    // What is copied may not.
    let before = names_in(&lab.chain_dir(&vm));
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    write(&vm.disk_path("vda"), "qcow2", 0, 4096, 3);
    run.release();
    assert_refused(&lab, &vm, &run.wait(), &["its images were written while they were copied"], &before);
}

/// What a guest reads at a place, and what the copy must have there: `(offset, pattern)`, in MiB.
#[track_caller]
fn assert_reads_as_qemu_does(lab: &Lab, spec: VmSpec, want: &[u8]) {
    let vm = lab.define(&spec);
    vm.start_paused();
    for (at, pattern) in (0..).zip(want) {
        let reads = vm.reads_as("vda", at * MIB, MIB, *pattern).expect("a read");
        assert!(reads, "{}: the guest at {at} MiB", vm.name());
    }
    vm.destroy();
    assert_eq!(lab.run_well(&vm).level(), "copy");
    let bytes = copied(lab, &vm, "vda");
    let wrong = |(at, pattern): (usize, &u8)| {
        let bytes = &bytes[at * MIB as usize..][..MIB as usize];
        bytes.iter().any(|byte| byte != pattern).then_some(at)
    };
    let wrong: Vec<_> = want.iter().enumerate().filter_map(wrong).collect();
    assert_eq!((wrong, bytes.len()), (vec![], want.len() * MIB as usize), "{}", vm.name());
}

#[test]
fn a_copy_holds_what_qemu_opens_by_the_definition() {
    let lab = Lab::new("off_layout");
    lab.configure(&[RAW]);
    let file = |name: &str| lab.path().join(name);
    for (name, pattern) in [("one.raw", 1), ("two.raw", 2)] {
        File::create(file(name)).and_then(|file| file.set_len(2 * MIB)).expect("a file");
        write(&file(name), "raw", 0, 2 * MIB, pattern);
    }
    let image = |name: &str, backing: Option<&str>| {
        let (path, backing) = (file(name), backing.map(file));
        let below = backing.iter().flat_map(|below| ["-F", "raw", "-b", path_text(below)]);
        let create = ["create", "-q", "-f", "qcow2"].into_iter().chain(below);
        qemu_img(&create.chain([path_text(&path), "2M"]).collect::<Vec<_>>());
        write(&path, "qcow2", MIB, MIB, 9);
        path
    };
    let store = |name: &str| {
        let source = format!("<source file='{}'/>", file(name).display());
        format!("<backingStore type='file'><format type='raw'/>{source}<backingStore/></backingStore>")
    };
    let cases = [
        ("names", None, store("two.raw"), [2, 9]),
        ("differs", Some("one.raw"), store("two.raw"), [2, 9]),
        ("ends", Some("one.raw"), "<backingStore/>".to_owned(), [0, 9]),
        ("silent", Some("one.raw"), String::new(), [1, 9]),
    ];
    for (name, header, xml, want) in cases {
        let path = image(&format!("{name}.qcow2"), header);
        let disk = DiskSpec::new("vda", 2 * MIB).made_file(&path).extra_xml(&xml);
        assert_reads_as_qemu_does(&lab, VmSpec::new(name).disk(disk), &want);
    }
    // A part of a file, raw and qcow2.
    let slice = |path: &Path, offset: u64, size: u64| {
        let slice = format!("<slice type='storage' offset='{offset}' size='{size}'/>");
        format!("<source file='{}'><slices>{slice}</slices></source>", path.display())
    };
    let whole = file("whole.raw");
    File::create(&whole).and_then(|file| file.set_len(4 * MIB)).expect("a file");
    write(&whole, "raw", MIB, 2 * MIB, 5);
    let source = slice(&whole, MIB, 2 * MIB);
    let disk = DiskSpec::new("vda", 2 * MIB).format(DiskFormat::Raw).made(&whole, "file", &source);
    assert_reads_as_qemu_does(&lab, VmSpec::new("part").disk(disk), &[5, 5]);
    let inner = image("inner.qcow2", None);
    let outer = file("outer");
    fs::write(&outer, [vec![0xff; MIB as usize], fs::read(&inner).expect("ours")].concat()).expect("a file");
    let len = fs::metadata(&inner).expect("ours").len();
    let source = slice(&outer, MIB, len);
    let disk = DiskSpec::new("vda", 2 * MIB).made(&outer, "file", &source);
    assert_reads_as_qemu_does(&lab, VmSpec::new("inside").disk(disk), &[0, 9]);

    // What only QEMU under libvirt can open.
    let path = image("odd.qcow2", None);
    let odd = "<backingStore type='network'><format type='raw'/><source protocol='nbd'><host name='localhost' port='1'/>\
               </source><backingStore/></backingStore>";
    let vm =
        lab.define(&VmSpec::new("odd").disk(DiskSpec::new("vda", 2 * MIB).made_file(&path).extra_xml(odd)));
    let words = ["cannot be read while the VM is shut off", "of type 'network'"];
    assert_refused(&lab, &vm, &lab.run(&vm), &words, &[]);
}

#[test]
fn a_damaged_image_is_said_and_is_in_the_exit_code() {
    let lab = Lab::configured("off_damaged");
    type Damage<'a> = &'a dyn Fn(&File);
    let damage: [(&str, Damage<'_>, &str); 2] = [
        ("marked", &|image| image.write_all_at(&[2], 79).expect("the header"), "is marked as corrupt"),
        ("short", &|image| image.set_len(MIB).expect("a file"), "is cut short or damaged"),
    ];
    for (name, damage, words) in damage {
        let vm = lab.define(&VmSpec::new(name).disk(DiskSpec::new("vda", 4 * MIB)));
        vm.run_while_off("vda", &[DiskOp::Write { offset: 0, len: 3 * MIB, pattern: 3 }]);
        assert_eq!(lab.run_well(&vm).vm_status(), "ok");
        damage(&File::options().write(true).open(vm.disk_path("vda")).expect("an image"));
        let ended = lab.run(&vm);
        assert_eq!((ended.status.code(), ended.level().as_str()), (Some(VM), "copy"), "{ended:#?}");
        assert_eq!(ended.vm_status(), "damaged", "{ended:#?}");
        let told = ended.report("damaged");
        assert!(told.contains(words) && told.contains("disk vda"), "{told}");
        assert!(ended.log.contains(words), "{}", ended.log);
        let row =
            "SELECT status, event_type, error_code, instr(error_message, 'disk vda') > 0, bytes_written > 0
            FROM vm_backups ORDER BY id DESC LIMIT 1";
        assert_eq!(lab.ask(row), ["failed|backup_failed|BACKUP_FAILED|1|1"], "{name}");
        // Nothing changed: there is no new point, and it is as damaged as before, also for the run after that.
        for _ in 0..2 {
            let again = lab.run(&vm);
            assert_eq!((again.status.code(), again.level().as_str()), (Some(VM), "skip"), "{again:#?}");
            assert_eq!(again.report("damaged"), told, "{name}");
            assert_eq!(lab.ask(row), ["failed|backup_failed|BACKUP_FAILED|1|0"]);
        }
        let info =
            must(Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(vm.disk_path("vda")));
        let info: Value = serde_json::from_str(&info).expect("JSON");
        assert_eq!(
            info["format-specific"]["data"]["corrupt"],
            Value::Bool(name == "marked"),
            "nobody repairs it"
        );
        assert_eq!(copied(&lab, &vm, "vda").len() as u64, 4 * MIB);
    }
}
