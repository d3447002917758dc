//! VMs that are shut off: what tells that they changed, and what is taken then.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use lab::{Bed, DiskOp, DiskSpec, Ended, History, Lab, Run, Shadow, Vm, VmSpec, extract, must, text, virsh};
use rustix::process::{Pid, Signal, kill_process};
use vmbackup::engine::fail_point::FailPoint;

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
    let lab = Lab::configured("off_changed");
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
            virsh(&["desc", vm.name(), "--config", "x"]);
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

const INCREMENTAL: (&str, &str) = ("OFFLINE_MODE", "incremental");

/// How long a VM that was started for its backup may be there after the program died.
const END_LIMIT: Duration = Duration::from_secs(90);

/// A VM of two disks that is off most of the time.
fn bed(lab: &Lab, spec: VmSpec) -> Bed<'_> {
    lab.configure(&[INCREMENTAL]);
    let disks = [DiskSpec::new("vda", 4 * MIB), DiskSpec::new("vdb", 2 * MIB + 512)];
    Bed::of(lab, lab.define(&disks.into_iter().fold(spec, VmSpec::disk)))
}

/// Writes to both disks while the VM is off, some of it zeros.
fn change(bed: &mut Bed<'_>) {
    let pattern = bed.stamp();
    let offset = u64::from(pattern) * 4096;
    bed.vm.run_while_off("vda", &[DiskOp::Write { offset, len: MIB, pattern }]);
    bed.vm.run_while_off("vda", &[DiskOp::WriteZeroes { offset: offset + 65536, len: 65536, unmap: true }]);
    bed.vm.run_while_off("vdb", &[DiskOp::Write { offset: 2 * MIB, len: 512, pattern }]);
}

/// Backs up while the VM is off: it is started for that.
#[track_caller]
fn back_up(bed: &mut Bed<'_>) -> Ended {
    let ended = bed.back_up_next();
    assert_eq!(ended.report("method"), "started_paused", "{}\n{}", ended.why(), ended.log);
    assert_eq!(bed.vm.state(), "shut off");
    ended
}

/// Changes the disks, and backs up.
#[track_caller]
fn change_and_back_up(bed: &mut Bed<'_>) -> Ended {
    change(bed);
    back_up(bed)
}

/// No unfinished file and no journal.
#[track_caller]
fn assert_tidy(bed: &Bed<'_>, when: impl fmt::Display) {
    let journals = fs::read_dir(bed.lab.backup_path().join("_state/journal")).expect("a folder").flatten();
    let files = fs::read_dir(bed.dir()).expect("a folder").flatten();
    let partial = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "partial"));
    let left: Vec<_> = journals.chain(partial).map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "left {when}: {left:?}");
}

/// The files of a VM's firmware and TPM: when they were written, and what is in them.
fn identity(vm: &Vm) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let tpm = Path::new("/var/lib/libvirt/swtpm").join(virsh(&["domuuid", vm.name()]).trim()).join("tpm2");
    let files = fs::read_dir(&tpm).expect("a TPM").flatten().map(|entry| entry.path());
    let files = files.chain([vm.directory().join("vars.fd")]).filter(|path| !path.ends_with(".lock"));
    files.map(|path| (path.clone(), modified(&path), fs::read(&path).expect("a file"))).collect()
}

#[test]
fn a_chain_goes_on_while_the_vm_is_off_and_nothing_but_disks_is_touched() {
    let lab = Lab::new("off_chain");
    let ovmf = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>";
    let vars = lab.path().join("vm-chain/vars.fd");
    let nvram = format!("<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{}</nvram>", vars.display());
    let tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
    let mut bed = bed(&lab, VmSpec::new("chain").os_xml(&format!("{ovmf}{nvram}")).devices_xml(tpm));
    // Never started: its TPM and its variables would be made.
    let copy = lab.run_well(&bed.vm);
    assert_eq!(copy.level(), "copy");
    assert!(copy.warnings().contains("it was never started"), "{}", copy.warnings());
    bed.vm.start_paused();
    bed.vm.write("vda", 0, 3 * MIB, 0x77).expect("a write");
    let full = lab.run_well(&bed.vm);
    assert_eq!((full.level().as_str(), full.report("method").as_str()), ("full", "already_paused"));
    bed.points.note(&lab, &bed.vm);
    bed.vm.destroy();
    let before = identity(&bed.vm);
    change(&mut bed);
    let plan = lab.vmbackup(&["--run", "--dry-run", "--vm", bed.vm.name()]);
    assert!(
        text(&plan).contains("incremental 1 (the chain continues), the VM is started paused for it"),
        "{}",
        text(&plan)
    );
    back_up(&mut bed);
    let skipped = lab.run_well(&bed.vm);
    assert_eq!(
        (skipped.level(), skipped.vm_status(), skipped.report("points")),
        ("skip".into(), "skipped".into(), "2".into())
    );
    lab.configure(&[]);
    assert_eq!(lab.run_well(&bed.vm).level(), "skip", "also where it would be copied");
    lab.configure(&[INCREMENTAL]);
    change_and_back_up(&mut bed);
    assert_eq!(identity(&bed.vm), before);
    // On, and off again.
    bed.vm.start_paused();
    bed.vm.write("vdb", 0, MIB, 0x66).expect("a write");
    assert_eq!(lab.run_well(&bed.vm).level(), "incremental 3");
    bed.points.note(&lab, &bed.vm);
    bed.vm.write("vdb", MIB, 4096, 0x55).expect("a write");
    bed.vm.destroy();
    back_up(&mut bed);
    assert_eq!(lab.run_well(&bed.vm).level(), "skip");
    lab.assert_points(&bed.dir(), &bed.points);
    assert_eq!(bed.vm.checkpoints().len(), 5);
    assert_tidy(&bed, "at the end");
    let row = "SELECT vm_status, backup_type, backup_method, vm_paused, event_detail FROM vm_backups WHERE status = 'success' \
               ORDER BY id DESC LIMIT 1";
    let row = lab.ask(row).remove(0);
    assert!(
        row.starts_with("shut off|auto|offline|0|incremental +") && row.contains("started paused"),
        "{row}"
    );
}

#[test]
fn a_chain_begins_while_the_vm_is_off_and_anew_when_its_bitmaps_are_gone() {
    let lab = Lab::new("off_first");
    let mut bed = bed(&lab, VmSpec::new("first"));
    change(&mut bed);
    let first = back_up(&mut bed);
    assert_eq!(first.why(), "first backup of this VM");
    change_and_back_up(&mut bed);
    bed.assert_points("the chain", &bed.dir(), &bed.points);
    let image = bed.vm.disk_path("vda");
    type Lose<'a> = &'a dyn Fn(&Vm);
    let lost: [(&str, Lose<'_>); 2] = [
        ("a program that knows no bitmaps has cleared their mark", &|_| {
            use std::os::unix::fs::FileExt;
            let file = File::options().write(true).open(&image).expect("an image");
            file.write_all_at(&[0; 8], 88).expect("the header has autoclear features there");
        }),
        ("QEMU is killed", &|vm| {
            vm.start_paused();
            vm.kill_qemu();
        }),
    ];
    for (case, lose) in lost {
        let before = std::mem::take(&mut bed.points);
        change(&mut bed);
        lose(&bed.vm);
        let plan = lab.vmbackup(&["--run", "--dry-run", "--vm", bed.vm.name()]);
        assert!(text(&plan).contains("full (a dirty bitmap is lost"), "{case}: {}", text(&plan));
        let ended = back_up(&mut bed);
        assert!(ended.why().contains("a dirty bitmap is lost"), "{case}: {}", ended.why());
        bed.assert_points(case, Path::new(&ended.report("archived_to")), &before);
        change_and_back_up(&mut bed);
        bed.assert_points("the chain", &bed.dir(), &bed.points);
    }
    // libvirt forgets its checkpoints, the images keep their bitmaps.
    let file = bed.vm.directory().join("again.xml");
    fs::write(&file, virsh(&["dumpxml", "--inactive", bed.vm.name()])).expect("a file");
    virsh(&["undefine", "--checkpoints-metadata", bed.vm.name()]);
    virsh(&["define", file.to_str().expect("text")]);
    change(&mut bed);
    let ended = back_up(&mut bed);
    assert!(ended.report("recovered").contains("gets checkpoint virtnbdbackup.1 back"), "{ended:#?}");
    bed.assert_points("the chain", &bed.dir(), &bed.points);
}

#[test]
fn a_vm_that_would_touch_more_than_its_disks_is_copied_and_the_reason_said() {
    let lab = Lab::new("off_refused");
    lab.configure(&[INCREMENTAL]);
    let address = "<address domain='0x0000' bus='0xfe' slot='0x1f' function='0x7'/>";
    let hostdev =
        format!("<hostdev mode='subsystem' type='pci' managed='yes'><source>{address}</source></hostdev>");
    let no_network = "<interface type='network'><source network='vmbt-not-there'/></interface>";
    let serial =
        format!("<serial type='file'><source path='{}'/></serial>", lab.path().join("serial.log").display());
    // (name, devices, why it is not started)
    let cases = [
        ("hostdev", hostdev.as_str(), "a device of the host (hostdev, pci)"),
        ("no network", no_network, "it cannot be started: libvirt cannot"),
        ("serial", &serial, "the output of its serial device is begun anew"),
    ];
    for (name, devices, reason) in cases {
        let vm = lab.define(&VmSpec::new(name).disk(DiskSpec::new("vda", MIB)).devices_xml(devices));
        let ended = lab.run_well(&vm);
        assert_eq!((ended.level().as_str(), vm.state().as_str()), ("copy", "shut off"), "{name}: {ended:#?}");
        assert!(ended.warnings().contains(reason), "{name}: {}", ended.warnings());
        assert_eq!(lab.run_well(&vm).level(), "skip", "{name}");
    }
    // Memory that is saved is still there afterwards.
    let vm = lab.paused_vm("saved", &[DiskSpec::new("vda", MIB)]);
    virsh(&["managedsave", vm.name()]);
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "copy");
    assert!(ended.warnings().contains("managedsave"), "{}", ended.warnings());
    assert!(
        virsh(&["dominfo", vm.name()])
            .lines()
            .any(|line| line.starts_with("Managed save") && line.ends_with("yes"))
    );
    virsh(&["managedsave-remove", vm.name()]);
}

/// The process that holds the connection a started VM ends with.
fn guard_of(run: &Run) -> Pid {
    let children = must(Command::new("pgrep").args(["--parent", &run.pid().as_raw_nonzero().to_string()]));
    let is_guard = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "kvm-guest-guard")
    };
    let pid = children.lines().find(is_guard).and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    pid.expect("a run has a guard")
}

fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).is_ok()
}

#[test]
fn killed_or_stopped_at_any_place_the_vm_is_shut_off_and_the_chain_goes_on() {
    let lab = Lab::new("off_killed");
    let mut bed = bed(&lab, VmSpec::new("killed"));
    change_and_back_up(&mut bed);
    for place in
        [FailPoint::Started, FailPoint::Begun, FailPoint::Copying, FailPoint::JobEnded, FailPoint::Published]
    {
        change(&mut bed);
        let ended = lab.run_killed_at(&bed.vm, place).wait();
        assert!(ended.status.code().is_none(), "at {place}: {ended:#?}");
        bed.vm.wait_for_state("shut off", END_LIMIT);
        if place == FailPoint::Published {
            bed.points.note(&lab, &bed.vm);
        }
        change_and_back_up(&mut bed);
        assert_tidy(&bed, place);
    }
    // The guard dies first: libvirt ends what it had started.
    change(&mut bed);
    let run = lab.run_held_at(&bed.vm, FailPoint::Copying);
    assert_eq!(bed.vm.state(), "paused");
    kill_process(guard_of(&run), Signal::KILL).expect("the guard");
    run.signal(Signal::KILL);
    bed.vm.wait_for_state("shut off", END_LIMIT);
    drop(run);
    back_up(&mut bed);
    assert_tidy(&bed, "by the run after the guard's death");
    for place in [FailPoint::Started, FailPoint::Copying] {
        change(&mut bed);
        let run = lab.run_held_at(&bed.vm, place);
        run.signal(Signal::TERM);
        run.release();
        let ended = run.wait();
        assert_eq!(ended.status.code(), Some(143), "at {place}: {ended:#?}");
        assert_eq!(bed.vm.state(), "shut off", "at {place}");
        assert_tidy(&bed, place);
        back_up(&mut bed);
    }
    bed.assert_points("the chain", &bed.dir(), &bed.points);
    assert_eq!(bed.vm.checkpoints().len(), bed.points.len());
}

#[test]
fn a_vm_that_somebody_resumes_meanwhile_is_theirs() {
    let lab = Lab::new("off_resumed");
    let mut bed = bed(&lab, VmSpec::new("resumed"));
    change_and_back_up(&mut bed);
    for killed in [false, true] {
        change(&mut bed);
        let at_snapshot = History::disks(&lab, &bed.vm);
        let run = lab.run_held_at(&bed.vm, FailPoint::Copying);
        let guard = guard_of(&run);
        bed.vm.resume();
        bed.vm.write("vda", 0, 65536, 0x99).expect("the guest writes");
        if killed {
            run.signal(Signal::KILL);
            drop(run);
        } else {
            run.release();
            let ended = run.wait();
            assert!(ended.status.success(), "{ended:#?}");
            assert_eq!(ended.level(), bed.next(), "{ended:#?}");
            assert!(ended.warnings().contains("somebody has resumed it"), "{}", ended.warnings());
            bed.points.push(at_snapshot);
        }
        bed.vm.wait_until_free(END_LIMIT);
        // Longer than a guard looks after a VM that it does not keep.
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!((bed.vm.state().as_str(), is_alive(guard)), ("running", true), "killed: {killed}");
        // Backed up as any that runs, and then shut off by them.
        assert_eq!(lab.run_well(&bed.vm).level(), bed.next());
        bed.points.note(&lab, &bed.vm);
        bed.vm.destroy();
        let began = Instant::now();
        while is_alive(guard) {
            assert!(began.elapsed() < END_LIMIT, "the guard stays for nobody");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // Ended and started by somebody: another run of it, which nobody of us touches, whatever its state.
    change(&mut bed);
    let run = lab.run_held_at(&bed.vm, FailPoint::Copying);
    bed.vm.destroy();
    bed.vm.start_paused();
    run.release();
    let ended = run.wait();
    assert!(!ended.status.success(), "{ended:#?}");
    assert_eq!(bed.vm.state(), "paused");
    bed.vm.destroy();
    back_up(&mut bed);
    bed.assert_points("the chain", &bed.dir(), &bed.points);
}
