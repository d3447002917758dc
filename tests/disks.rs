//! Every disk of a VM is accounted for: what a plan, a check and a summary say of it, and that it is restored.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{
    DiskFormat, DiskSpec, Ended, Lab, LoopDevice, Version, Vm, VmSpec, extract, make_ext4, must, text, virsh,
};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

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

/// What a check says of the VM, and in the end of all.
fn checked(lab: &Lab, vm: &Vm) -> (String, String) {
    let said = printed(lab, vm, &["--check"]);
    let about_vm = said.split_once(" VM: ").unwrap_or_else(|| panic!("no VM in {said}")).1;
    // What follows a finding's first line is indented.
    let mut lines = about_vm.split_inclusive('\n');
    let first = lines.next().into_iter();
    let about_vm: String = first.chain(lines.take_while(|line| line.starts_with(' '))).collect();
    // How many findings there are depends on this machine, too.
    let end = said.rsplit_once("\n\n").expect("the end stands alone").1;
    (about_vm.trim_end().to_owned(), end.to_owned())
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
{}  host configuration: not saved (HOST_CONFIG_BACKUP)
",
        indented(whole, "      ")
    );
    assert_eq!(printed(&lab, &vm, &["--run", "--dry-run"]) + "\n", want);
    let want = format!(
        "NAME: full (first backup of this VM)
        consistency auto: no guest agent is connected, the guest is paused (crash-consistent)
{}        {} of the host is shared with the guest: back it up on the host
      → save by other means what the backup leaves out, or leave it out on purpose: VM_EXCLUDE_DISKS, VIRTNBD_EXCLUDE_DISKS",
        indented(whole, "        "),
        folder.display()
    );
    let (about_vm, end) = checked(&lab, &vm);
    assert_eq!(about_vm, want);
    assert!(end.starts_with("Backups can work; "), "{end}");
    let want = format!(
        "VM STATUS TYPE POINTS SIZE TIME REMARK
NAME ok full 1 SIZE SIZE first backup of this VM

VM DISK RESULT SIZE REMARK
{}
1 backed up, 0 excluded, 0 skipped, 0 failed
Host configuration: not saved (HOST_CONFIG_BACKUP)",
        table(" backed up SIZE the whole disk")
    );
    assert_eq!(printed(&lab, &vm, &["--run"]), want);
    assert_restored(&lab, &vm, &["vda", "sda"]);

    // The end of the VM's box in the log has the same lines.
    let log = lab.backup_path().join("_state/logs/vmbackup.log");
    let log = fs::read_to_string(log).expect("a log");
    for line in indented(whole, "").lines() {
        let line = line.replacen("disk", "║  Disk", 1);
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
    assert!(!checked(&lab, &vm).0.contains("consistency"), "nobody is held still");
}

#[test]
fn disks_of_one_vm_are_left_out_by_name() {
    let lab = Lab::configured("exclude_of_vm");
    let disks = || [DiskSpec::new("vda", MIB), DiskSpec::new("vdc", MIB)];
    let (db, web) = (lab.paused_vm("db", &disks()), lab.paused_vm("web", &disks()));
    let overrides = format!("VM_EXCLUDE_DISKS[\"{}\"]=\"vdc\"\n", db.name());
    fs::write(lab.config_dir().join("default/vm_overrides.conf"), overrides).expect("it is ours");
    let said = lab.run_well(&db).disks();
    assert_eq!(said, ["vda: backed_up: the whole disk", "vdc: skipped: excluded by VM_EXCLUDE_DISKS"]);
    assert_eq!(lab.run_well(&web).disks().len(), 2);
    assert_restored(&lab, &web, &["vda", "vdc"]);
    assert_restored(&lab, &db, &["vda"]);
}

#[test]
fn a_vm_without_a_disk_to_back_up_is_known_before_the_run() {
    let lab = Lab::new("no_disk");
    lab.configure(&[("LOG_LEVEL", "error")]);
    let vm = lab.define(&VmSpec::new("vm").disk(DiskSpec::new("vda", MIB).format(DiskFormat::Raw)));
    vm.start_paused();
    let (about_vm, end) = checked(&lab, &vm);
    let begins =
        "NAME: cannot: Domain NAME has no disk that can be backed up: vda: skipped: raw disk, not included";
    assert!(about_vm.starts_with(begins), "{about_vm}");
    assert!(end.starts_with("1 finding(s) keep backups from working."), "{end}");
    assert!(lab.run(&vm).error().contains("no disk that can be backed up: vda: skipped"));
}

fn qemu_img(arguments: &[&str]) -> String {
    must(Command::new("qemu-img").args(arguments))
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the lab's path is text")
}

/// An empty qcow2 image in the lab.
fn new_image(lab: &Lab, name: &str, options: &str, bytes: u64) -> PathBuf {
    let image = lab.path().join(name);
    let options = if options.is_empty() { "compat=1.1" } else { options };
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", options, path_text(&image), &bytes.to_string()]);
    image
}

/// Backs up and holds the newest point against the guest's view.
#[track_caller]
fn backed_up(lab: &Lab, vm: &Vm, level: &str) -> Ended {
    let ended = lab.run_well(vm);
    assert_eq!(ended.level(), level, "{}\n{}", ended.why(), ended.log);
    assert_restored(lab, vm, &vm.targets());
    ended
}

/// The usual life of a VM with one unusual disk, `vda`: full, increments with writes and zeros, a restart, a copy.
#[track_caller]
fn lives(lab: &Lab, vm: &Vm) {
    vm.write("vda", MIB, MIB, 1).expect("a write");
    backed_up(lab, vm, "full");
    vm.write("vda", 2 * MIB, 64 << 10, 2).expect("a write");
    vm.write_zeroes("vda", MIB, 64 << 10, true).expect("zeros");
    backed_up(lab, vm, "incremental 1");
    // The bitmaps are in the image.
    vm.destroy();
    vm.start_paused();
    vm.write("vda", 3 * MIB, 512, 3).expect("a write");
    backed_up(lab, vm, "incremental 2");
    vm.destroy();
    backed_up(lab, vm, "copy");
}

#[test]
fn a_qcow2_image_on_a_block_device() {
    let lab = Lab::configured("block");
    let file = lab.path().join("device");
    File::create(&file).and_then(|file| file.set_len(16 * MIB)).expect("a file");
    let device = LoopDevice::over(&file);
    qemu_img(&["create", "-q", "-f", "qcow2", device.text(), &(8 * MIB).to_string()]);
    let source = format!("<source dev='{}'/>", device.text());
    let disk = DiskSpec::new("vda", 8 * MIB).made(device.path(), "block", &source);
    let vm = lab.paused_vm("block", &[disk]);
    lives(&lab, &vm);
    // A device does not tell when it was written.
    backed_up(&lab, &vm, "copy");
    // What is allocated is asked of the image: here the node says nothing, and the disk does not fit.
    vm.start_paused();
    vm.write("vda", 0, 8 * MIB, 4).expect("a write");
    let small = lab.small_file_system("small", 4);
    lab.configure(&[("BACKUP_PATH", small.text())]);
    vm.delete_checkpoints();
    let error = lab.run(&vm).error();
    assert!(error.contains("Too little space in") && error.contains("about 8."), "{error}");
}

struct Pool<'a>(&'a str);

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        virsh(&["pool-destroy", self.0]);
    }
}

#[test]
fn a_volume_of_a_storage_pool() {
    let lab = Lab::configured("volume");
    let name = format!("{}pool", lab.prefix());
    let folder = lab.new_dir("pool");
    virsh(&["pool-create-as", &name, "dir", "--target", path_text(&folder)]);
    let _pool = Pool(&name);
    virsh(&["vol-create-as", &name, "a b.qcow2", "4M", "--format", "qcow2"]);
    qemu_img(&["amend", "-o", "compat=1.1", path_text(&folder.join("a b.qcow2"))]);
    let source = format!("<source pool='{name}' volume='a b.qcow2'/>");
    let disk = DiskSpec::new("vda", 4 * MIB).made(&folder.join("a b.qcow2"), "volume", &source);
    let vm = lab.paused_vm("volume", &[disk]);
    lives(&lab, &vm);
    assert_eq!(lab.run_well(&vm).level(), "skip");
}

#[test]
fn images_over_a_backing_file_that_two_vms_share() {
    let lab = Lab::configured("backing");
    let content = lab.path().join("content.raw");
    fs::write(&content, vec![7; 3 * MIB as usize]).expect("a file");
    let base = lab.path().join("base.qcow2");
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", path_text(&content), path_text(&base)]);
    let over = |name: &str, below: &Path| {
        let image = lab.path().join(name);
        let options = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path_text(below)];
        qemu_img(&[&options[..], &[path_text(&image), "4M"]].concat());
        image
    };
    let content = lab.path().join("content-4M.raw");
    fs::write(&content, [vec![7; 3 * MIB as usize], vec![0; MIB as usize]].concat()).expect("a file");
    let middle = over("middle.qcow2", &base);
    let disk = |image: &Path| DiskSpec::new("vda", 4 * MIB).content(&content).made_file(image);
    let one = lab.paused_vm("one", &[disk(&over("one.qcow2", &middle))]);
    let two = lab.paused_vm("two", &[disk(&over("two.qcow2", &base))]);
    one.write("vda", 0, 512, 1).expect("a write");
    two.write_zeroes("vda", 0, 4 * MIB, true).expect("zeros");
    backed_up(&lab, &one, "full");
    backed_up(&lab, &two, "full");
    two.write("vda", MIB, 512, 2).expect("a write");
    backed_up(&lab, &two, "incremental 1");

    // An external snapshot between runs: a new image, and libvirt takes the bitmaps along.
    one.write("vda", MIB, 512, 3).expect("a write");
    virsh(&["snapshot-create-as", one.name(), "before-update", "--disk-only"]);
    one.write("vda", 2 * MIB, 512, 4).expect("a write");
    one.write_zeroes("vda", 0, 64 << 10, true).expect("zeros");
    let ended = backed_up(&lab, &one, "incremental 1");
    let facts = lab.chain_dir(&one).join(".identity.virtnbdbackup.1.json");
    let facts: Value = serde_json::from_slice(&fs::read(facts).expect("facts")).expect("JSON");
    assert_eq!(facts["snapshots"][0]["name"], "before-update", "{facts:#}");
    assert!(facts["snapshots"][0]["xml"].as_str().is_some_and(|xml| xml.contains("<domainsnapshot")));
    assert!(ended.warnings().is_empty(), "{}", ended.warnings());

    // What is restored stands alone.
    let restored = lab.path().join("restored.qcow2");
    let chain = lab.chain_dir(&one);
    let arguments = ["extract", path_text(&chain), "--disk", "vda", "--format", "qcow2", "-o"];
    let output = lab.vmstream(&[&arguments[..], &[path_text(&restored)]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let info: Value =
        serde_json::from_str(&qemu_img(&["info", "--output=json", path_text(&restored)])).expect("JSON");
    assert_eq!(info["backing-filename"], Value::Null);
    for vm in [&one, &two] {
        vm.destroy();
        backed_up(&lab, vm, "copy");
        assert_eq!(lab.run_well(vm).level(), "skip");
    }
}

#[test]
fn images_with_an_external_data_file() {
    for (name, options) in [("plain", "data_file="), ("raw", "data_file_raw=on,data_file=")] {
        let lab = Lab::configured(&format!("data_file_{name}"));
        let data = lab.path().join("vda.data-file");
        let image = new_image(&lab, "vda.qcow2", &format!("{options}{}", data.display()), 4 * MIB);
        let vm = lab.paused_vm("data file", &[DiskSpec::new("vda", 4 * MIB).made_file(&image)]);
        lives(&lab, &vm);
        let state = || {
            let about = fs::metadata(&data).expect("the data file is there");
            (about.modified().expect("a time"), about.len(), fs::read(&data).expect("it can be read"))
        };
        let before = state();
        // Old readers make an image as the facts beside the stream say: not with the data file that is in use.
        for version in Version::ALL {
            lab.assert_virtnbdrestore(version, &lab.chain_dir(&vm), None, &[("vda", vm.shadow("vda"))]);
        }
        assert!(state() == before, "{name}: a restore wrote into the data file of the VM");
    }
}

/// A secret of libvirt's. Forgotten when dropped.
struct Secret(String);

impl Secret {
    fn new(lab: &Lab, private: &str, passphrase: &Path) -> Self {
        let xml = lab.path().join("secret.xml");
        let usage = format!("{}{private}", lab.prefix());
        let text = format!(
            "<secret ephemeral='no' private='{private}'><usage type='volume'><volume>{usage}</volume></usage></secret>"
        );
        fs::write(&xml, text).expect("a file");
        let said = must(Command::new("virsh").args(["-c", "qemu:///system", "secret-define"]).arg(&xml));
        let uuid = said.split_whitespace().find(|word| word.len() == 36).expect("a UUID").to_owned();
        virsh(&["secret-set-value", &uuid, "--file", path_text(passphrase), "--plain"]);
        Self(uuid)
    }

    fn disk(&self, target: &str, image: &Path) -> DiskSpec {
        let source = format!(
            "<source file='{}'><encryption format='luks'><secret type='passphrase' uuid='{}'/></encryption></source>",
            image.display(),
            self.0
        );
        DiskSpec::new(target, 4 * MIB).made(image, "file", &source)
    }
}

/// An image of 4 MiB that is encrypted with what is in a file.
fn luks_image(lab: &Lab, name: &str, format: &str, passphrase: &Path) -> PathBuf {
    let image = lab.path().join(name);
    let object = format!("secret,id=s,file={}", passphrase.display());
    let options = match format {
        "qcow2" => "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
        _ => "key-secret=s,iter-time=10",
    };
    qemu_img(&["create", "-q", "-f", format, "--object", &object, "-o", options, path_text(&image), "4M"]);
    image
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ =
            Command::new("virsh").args(["-q", "-c", "qemu:///system", "secret-undefine", &self.0]).status();
    }
}

#[test]
fn an_encrypted_image_has_encrypted_scratch_files_and_its_key_stays_where_it_is() {
    const MARK: u8 = 0xa7;
    let lab = Lab::configured("luks");
    let passphrase = lab.path().join("passphrase");
    fs::write(&passphrase, "open sesame").expect("a file");
    let luks = |name: &str| luks_image(&lab, name, "qcow2", &passphrase);
    let secret = Secret::new(&lab, "no", &passphrase);
    let vm = lab.paused_vm("luks", &[secret.disk("vda", &luks("vda.qcow2")), DiskSpec::new("vdb", MIB)]);
    lives(&lab, &vm);
    vm.start_paused();
    vm.write("vda", 0, 4 * MIB, MARK).expect("a write");
    let held = lab.run_held_at(&vm, FailPoint::Copying);
    // What the guest overwrites now goes into the scratch file.
    vm.write("vda", 0, 4 * MIB, 1).expect("a write");
    vm.flush("vda").expect("a flush");
    let scratch = |target: &str| {
        let files = fs::read_dir(lab.scratch_dir()).expect("a folder").flatten().map(|entry| entry.path());
        files.filter(|path| path.extension().is_some_and(|end| end == target)).collect::<Vec<_>>()
    };
    let file = scratch("vda").pop().expect("the job has a scratch file");
    assert!(qemu_img(&["info", "-U", path_text(&file)]).contains("encrypted: yes"));
    let bytes = fs::read(&file).expect("it can be read");
    assert!(bytes.len() as u64 > 5 * MIB, "the overwritten blocks are in it");
    assert!(
        !bytes.windows(64).any(|part| part == [MARK; 64]),
        "the guest's data can be read in the scratch file"
    );
    for file in [file, scratch("vdb").pop().expect("each disk has one")] {
        assert_eq!(
            fs::metadata(&file).expect("it is there").permissions().mode() & 0o077,
            0,
            "{}",
            file.display()
        );
    }
    assert!(!virsh(&["secret-list"]).contains("vmbackup"), "the key is forgotten once QEMU has it");
    held.release();
    assert!(held.wait().status.success());
    assert!(scratch("vda").is_empty() && scratch("vdb").is_empty());
    // A run that dies leaves neither for good.
    assert!(!lab.run_killed_at(&vm, FailPoint::Held).wait().status.success());
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
    assert!(scratch("vda").is_empty() && !virsh(&["secret-list"]).contains("vmbackup"));
    assert_restored(&lab, &vm, &["vda", "vdb"]);

    let ended = lab.run_well(&vm);
    let want = "vda: backed_up: changes since virtnbdbackup.1: its image is encrypted, the backup is not";
    assert_eq!(ended.disks()[0], want);
    vm.destroy();

    // A private secret is for QEMU alone.
    let private = Secret::new(&lab, "yes", &passphrase);
    let vm = lab.paused_vm("private", &[private.disk("vda", &luks("private.qcow2"))]);
    vm.write("vda", 0, MIB, 5).expect("a write");
    backed_up(&lab, &vm, "full");
    vm.destroy();
    for said in [lab.run(&vm).error(), checked(&lab, &vm).0] {
        for words in ["Disk vda is encrypted", "private='yes'", "back the VM up while it runs"] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
    }
    assert_restored(&lab, &vm, &["vda"]);
}

#[test]
fn a_disk_that_vms_share_is_copied_with_a_word_of_warning() {
    let lab = Lab::new("shareable");
    lab.configure(&[("BACKUP_RAW_DISKS", "true")]);
    let shared = DiskSpec::new("vdb", MIB).format(DiskFormat::Raw).extra_xml("<shareable/>");
    let vm = lab.paused_vm("sharing", &[DiskSpec::new("vda", MIB), shared]);
    vm.write("vdb", 0, 512, 1).expect("a write");
    let ended = backed_up(&lab, &vm, "full");
    let want = "vdb: copied: the whole disk as a raw image: shared with other VMs: what those write while it is read \
                may be in the backup in part";
    assert_eq!(ended.disks()[1], want);
    assert!(checked(&lab, &vm).1.starts_with("Backups can work"));
}

#[test]
fn an_encrypted_raw_image_is_copied_as_the_guest_sees_it() {
    let lab = Lab::new("luks_raw");
    lab.configure(&[("BACKUP_RAW_DISKS", "true")]);
    let passphrase = lab.path().join("passphrase");
    fs::write(&passphrase, "open sesame").expect("a file");
    let secret = Secret::new(&lab, "no", &passphrase);
    let image = luks_image(&lab, "vdb.raw", "luks", &passphrase);
    let raw = secret.disk("vdb", &image).format(DiskFormat::Raw);
    let vm = lab.paused_vm("luks raw", &[DiskSpec::new("vda", MIB), raw]);
    // What was never written reads as noise.
    vm.write("vdb", 0, 4 * MIB, 1).expect("a write");
    let ended = backed_up(&lab, &vm, "full");
    let want = "vdb: copied: the whole disk as a raw image: its image is encrypted, the backup is not";
    assert_eq!(ended.disks()[1], want);
    vm.write("vdb", 0, 512, 2).expect("a write");
    vm.destroy();
    backed_up(&lab, &vm, "copy");
}
