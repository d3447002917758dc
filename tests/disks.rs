//! Every disk of a VM is accounted for: what a plan, a check and a summary say of it, and that it is restored.

mod lab;

use lab::{DiskFormat, DiskSpec, Lab, Vm, VmSpec, extract, make_ext4, text};

const MIB: u64 = 1 << 20;

/// What the program prints, with the VM's name and what differs from run to run as marks.
fn printed(lab: &Lab, vm: &Vm, arguments: &[&str]) -> String {
    let output = lab.vmbackup(&[arguments, &["--vm", vm.name()]].concat());
    let said = String::from_utf8_lossy(&output.stdout).replace(vm.name(), "NAME");
    assert!(!said.is_empty(), "{}", text(&output));
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let mut lines = vec![];
    for line in said.lines() {
        let mut words: Vec<String> = vec![];
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            match (words.last_mut(), word.trim_end_matches(')')) {
                (Some(last), "s" | "B" | "KiB" | "MiB") if number(last) => "SIZE".clone_into(last),
                _ => words.push(word.to_owned()),
            }
        }
        let indent = line.chars().take_while(|c| *c == ' ').count();
        lines.push(format!("{}{}", " ".repeat(indent), words.join(" ")));
    }
    let month = jiff::Zoned::now().strftime("%Y%m").to_string();
    lines.join("\n").replace(&month, "MONTH")
}

/// The lines of a check that are about VMs.
fn checked(lab: &Lab, vm: &Vm) -> String {
    let said = printed(lab, vm, &["--check"]);
    said.split_once(" VM: ").unwrap_or_else(|| panic!("no VM in {said}")).1.to_owned()
}

#[track_caller]
fn assert_restored(lab: &Lab, vm: &Vm, targets: &[&str]) {
    for target in targets {
        let raw = extract(lab, &lab.chain_dir(vm), target, None);
        assert_eq!(vm.shadow(target).equals(&raw), Ok(()), "{target}");
    }
}

#[test]
fn every_disk_is_named_with_what_becomes_of_it() {
    let lab = Lab::new("every_disk");
    lab.configure(&[("VIRTNBD_EXCLUDE_DISKS", "vdb"), ("LOG_LEVEL", "error")]);
    let served = lab.path().join("served.raw");
    make_ext4(&served, 4 * MIB);
    let server = lab.nbd_server(&served);
    let folder = lab.new_dir("shared");
    let shared = format!(
        "<filesystem type='mount' accessmode='mapped'><source dir='{}'/><target dir='x'/></filesystem>",
        folder.display()
    );
    let spec = VmSpec::new("all")
        .disk(DiskSpec::new("vda", 2 * MIB))
        .disk(DiskSpec::new("vdb", MIB))
        .disk(DiskSpec::new("sda", 3 * MIB + 512))
        .disk(DiskSpec::new("vdc", MIB).extra_xml("<readonly/>"))
        .disk(DiskSpec::new("vdd", MIB).extra_xml("<transient/>"))
        .disk(DiskSpec::new("vde", MIB).format(DiskFormat::Raw))
        .network_disk("vdn", server.socket())
        .cdrom("sdc", None)
        .floppy("fda", None)
        .devices_xml(&shared);
    let mut vm = lab.define(&spec);
    vm.start_paused();
    vm.resume();
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm.write("sda", 3 * MIB, 512, 2).expect("a write");
    let fixed = "fda: skipped: removable media (floppy)
sda: LIVE
sdc: skipped: removable media (cdrom)
vda: LIVE
vdb: skipped: excluded by VIRTNBD_EXCLUDE_DISKS or VIRTNBD_INCLUDE_DISKS
vdc: skipped: read-only disk, QEMU can keep no bitmap in it; copy its image by hand once
vdd: skipped: transient disk, its changes are discarded at shutdown; copy its image by hand once
vde: skipped: raw disk, not included: raw images have no dirty bitmaps; set BACKUP_RAW_DISKS=true to copy it whole \
with each full backup, or convert it to qcow2
vdn: skipped: network disk (nbd), back it up where it is stored";
    let indented = |live: &str, indent: &str| {
        let lines = fixed.lines().map(|line| format!("{indent}disk {}\n", line.replace("LIVE", live)));
        lines.collect::<String>()
    };
    let table = |live: &str| {
        let row = |line: &str| {
            let line = line.replace(": LIVE", live).replace(": skipped: ", " skipped - ");
            format!("NAME {line}\n")
        };
        fixed.lines().map(row).collect::<String>()
    };

    let whole = "backed up (the whole disk)";
    let want = format!(
        "[DRY-RUN] Nothing is changed. A run now would do this:
  NAME: full (first backup of this VM)
      policy monthly (DEFAULT_ROTATION_POLICY), period MONTH
{}",
        indented(whole, "      ")
    );
    assert_eq!(printed(&lab, &vm, &["--run", "--dry-run"]) + "\n", want);
    let want = format!(
        "NAME: full (first backup of this VM)
        consistency auto: no guest agent is connected, the guest is paused (crash-consistent)
{}        {} of the host is shared with the guest: back it up on the host
      → save by other means what the backup leaves out, or leave it out on purpose: VIRTNBD_EXCLUDE_DISKS

Backups can work; 1 finding(s) deserve a look.",
        indented(whole, "        "),
        folder.display()
    );
    assert_eq!(checked(&lab, &vm), want);
    let want = format!(
        "VM STATUS TYPE POINTS SIZE TIME REMARK
NAME ok full 1 SIZE SIZE first backup of this VM

VM DISK RESULT SIZE REMARK
{}
1 backed up, 0 excluded, 0 skipped, 0 failed",
        table(" backed up SIZE the whole disk")
    );
    assert_eq!(printed(&lab, &vm, &["--run"]), want);
    assert_restored(&lab, &vm, &["vda", "sda"]);

    // The end of the VM's box in the log has the same lines.
    let log = lab.backup_path().join("_state/logs/vmbackup.log");
    let log = std::fs::read_to_string(log).expect("a log");
    for line in indented(whole, "").lines() {
        let line = line.replacen("disk", "║ Disk", 1);
        assert!(log.lines().any(|logged| logged.ends_with(&line)), "no {line:?} in {log}");
    }

    vm.attach_disk(&DiskSpec::new("vdf", MIB));
    vm.write("vdf", 0, 512, 3).expect("a write");
    vm.write("vda", MIB, 512, 4).expect("a write");
    let ended = lab.run_well(&vm);
    let lines = ended.disks();
    for want in [
        "vda: backed_up: changes since virtnbdbackup.0",
        "vdf: backed_up: the whole disk: new in this chain",
        "vde: skipped: raw disk, not included in an incremental backup: it is copied with full backups only",
    ] {
        assert!(lines.contains(&want.to_owned()), "no {want:?} in {lines:#?}");
    }
    assert_restored(&lab, &vm, &["vda", "sda", "vdf"]);
    vm.destroy();
    let copy = lab.run_well(&vm).disks();
    assert!(copy.contains(&"sda: copied: the whole disk: the VM is shut off".to_owned()), "{copy:#?}");
    assert_restored(&lab, &vm, &["vda", "sda", "vdf"]);
    let again = lab.run_well(&vm);
    assert_eq!((again.level().as_str(), again.disks().len()), ("skip", copy.len()));
    assert!(again.disks().contains(&"sda: skipped: unchanged since the last copy".to_owned()));
    assert!(!checked(&lab, &vm).contains("consistency"), "nobody is held still");
}

#[test]
fn a_vm_without_a_disk_to_back_up_is_known_before_the_run() {
    let lab = Lab::new("no_disk");
    lab.configure(&[("LOG_LEVEL", "error")]);
    let vm = lab.define(&VmSpec::new("vm").disk(DiskSpec::new("vda", MIB).format(DiskFormat::Raw)));
    vm.start_paused();
    let said = checked(&lab, &vm);
    let begins =
        "NAME: cannot: Domain NAME has no disk that can be backed up: vda: skipped: raw disk, not included";
    assert!(said.starts_with(begins) && said.ends_with("1 finding(s) keep backups from working."), "{said}");
    assert!(lab.run(&vm).error().contains("no disk that can be backed up: vda: skipped"));
}
