//! `--check`: what keeps backups from working is found, and what mends it is said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::{DiskSpec, Lab, VmSpec, World, extract, must, text, virsh};
use serde_json::Value;

const MIB: u64 = 1 << 20;

const STORAGE: i32 = 4;
const VM: i32 = 5;
const TOOL: i32 = 6;

#[test]
fn a_check_finds_what_is_wrong_and_how_to_mend_it() {
    let lab = Lab::new("check");
    lab.configure(&[("LOG_LEVEL", "warn")]);
    let [one, two] = ["one", "two"].map(|name| lab.paused_vm(name, &[DiskSpec::new("vda", 2 * MIB)]));
    let check = |code: i32| {
        let output = lab.vmbackup(&["--check", "--vm", one.name()]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let settings = || {
        let output = lab.vmbackup(&["--check", "--settings", "--vm", one.name()]);
        String::from_utf8_lossy(&output.stdout)
            .split_once("\nSettings of ")
            .expect("the settings")
            .1
            .to_owned()
    };
    // A path that no run has seen yet. What is printed can be typed in.
    let said = check(0);
    let owner = said.split("look  owner: ").nth(1).expect("a finding about the owner");
    assert!(owner.contains("belongs to UID 0 and GID 0, mode 755"), "{owner}");
    let fix = owner.split("→ ").nth(1).and_then(|fix| fix.lines().next()).expect("a fix");
    must(Command::new("sh").args(["-c", fix]));
    let before = World::of(&lab, &[&one, &two]);
    let said = check(0);
    let file = lab.config_dir().join("default/vmbackup.conf");
    // Findings alone, unless settings are asked for.
    assert!(!said.contains("PARALLEL_VMS"), "{said}");
    for words in [format!("{}:6:", file.display()), "PARALLEL_VMS ".to_owned(), "default".to_owned()] {
        assert!(settings().contains(&words), "no {words:?} in {}", settings());
    }
    for words in [
        "ok    qemu-img: qemu-img version".to_owned(),
        "ok    libvirt: ".to_owned(),
        format!("ok    BACKUP_PATH: {}", lab.backup_path().display()),
        format!("ok    owner: {} belongs to root and the group backup", lab.backup_path().display()),
        format!("ok    VM: {}: full (", one.name()),
        "Backups can work".to_owned(),
        "vmbackup --check --settings".to_owned(),
    ] {
        assert!(said.contains(&words), "no {words:?} in {said}");
    }
    // The lab sets a level in the older key, which chooses lz4.
    let chosen = |line: &str| line.split_whitespace().take(2).eq(["COMPRESSION", "lz4"]);
    assert!(settings().lines().any(chosen), "{}", settings());
    let output = lab.vmbackup(&["--check", "--json", "--vm", one.name()]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        json["findings"].as_array().expect("a list").iter().all(|one| one["grade"] == "good"),
        "{json:#}"
    );
    assert!(World::of(&lab, &[&one, &two]) == before, "a question changed something");

    virsh(&["checkpoint-create-as", one.name(), "mine"]);
    let said = check(VM);
    assert!(said.starts_with("BAD   VM: ") && said.contains("virsh checkpoint-delete"), "{said}");
    virsh(&["checkpoint-delete", one.name(), "mine"]);
    let missing = lab.path().join("not-mounted");
    lab.configure(&[("VIRTNBD_SCRATCH_DIR", missing.to_str().expect("text"))]);
    let said = check(STORAGE);
    let fix = format!("does not exist\n      → mount it, or: mkdir -p '{}'", missing.display());
    assert!(said.contains("BAD   VIRTNBD_SCRATCH_DIR") && said.contains(&fix), "{said}");
    lab.configure(&[("BACKUP_PATH", missing.to_str().expect("text"))]);
    check(STORAGE);
    assert!(!missing.exists(), "it is never created");
    let uri = format!("qemu+unix:///system?socket={}", lab.path().join("no-socket").display());
    lab.configure(&[("LIBVIRT_URI", &uri)]);
    let said = check(TOOL);
    assert!(said.contains("BAD   libvirt") && said.contains("→ systemctl start"), "{said}");
    lab.configure(&[]);
    let output = lab.vmbackup_command().arg("--check").env("PATH", "/nonexistent").output().expect("it runs");
    assert_eq!(output.status.code(), Some(8), "{}", text(&output));
    assert!(text(&output).contains("→ apt install qemu-utils"), "{}", text(&output));
    assert!(text(&output).contains("look  ionice: cannot be started"), "{}", text(&output));
    assert!(!text(&output).contains("tar: "), "{}", text(&output));
}

#[test]
fn a_check_finds_folders_that_qemu_does_not_share() {
    let lab = Lab::configured("check_folders");
    let one = lab.define(&VmSpec::new("one").disk(DiskSpec::new("vda", MIB)));
    let shut = lab.new_dir("shut");
    let scratch = shut.join("scratch");
    fs::create_dir(&scratch).expect("a folder");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o700)).expect("ours");
    lab.configure(&[("VIRTNBD_SCRATCH_DIR", scratch.to_str().expect("text"))]);
    let output = lab.vmbackup(&["--check", "--vm", one.name()]);
    assert_eq!(output.status.code(), Some(STORAGE), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let finding =
        said.split("BAD   VIRTNBD_SCRATCH_DIR: ").nth(1).expect("a finding about the scratch folder");
    assert!(finding.contains(&format!("may not enter {}\n", shut.display())), "{finding}");
    let fix = finding.split("→ ").nth(1).and_then(|fix| fix.lines().next()).expect("a fix");
    must(Command::new("sh").args(["-c", fix]));
    let check = || lab.vmbackup(&["--check", "--vm", one.name()]);
    assert!(!text(&check()).contains("may not enter"), "{}", text(&check()));
    assert!(!text(&check()).contains("private folder"), "{}", text(&check()));

    // As in a unit with PrivateTmp=yes.
    let command = lab.vmbackup_command();
    let mut private = Command::new("unshare");
    private.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /var/tmp && exec \"$@\"", "sh"]);
    private.arg(command.get_program()).args(command.get_args()).args(["--check", "--vm", one.name()]);
    private.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = private.output().expect("unshare can be started");
    assert_eq!(output.status.code(), Some(STORAGE), "{}", text(&output));
    assert!(text(&output).contains("BAD   private folder: /var/tmp is another folder"), "{}", text(&output));
}

#[test]
fn a_check_names_what_a_restore_would_lack() {
    let lab = Lab::configured("check_restore");
    let image = |folder: &str| {
        let image = lab.new_dir(folder).join("disk.qcow2");
        must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1M"));
        image
    };
    let disk = |target: &str, folder: &str| DiskSpec::new(target, MIB).made_file(&image(folder));
    let spec = VmSpec::new("restored").disk(disk("vda", "first")).disk(disk("vdb", "second"));
    let vm = lab.define(&spec.devices_xml("<graphics type='vnc' port='-1' passwd='secret'/>"));
    let said = text(&lab.vmbackup(&["--check", "--vm", vm.name()]));
    for words in [
        "disks vda, vdb have images of one name (disk.qcow2): virtnbdrestore",
        "the password of the VNC display is not in the backup",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(!said.contains("'secret'"), "{said}");
    // It is right: the backup has no password, and vmstream restores both disks.
    lab.run_well(&vm);
    let kept = fs::read_dir(lab.chain_dir(&vm)).expect("a set").flatten().map(|entry| entry.path());
    let config = kept.filter(|path| path.extension().is_some_and(|end| end == "xml"));
    assert!(config.map(|path| fs::read_to_string(path).expect("text")).all(|xml| !xml.contains("secret")));
    for target in ["vda", "vdb"] {
        extract(&lab, &lab.chain_dir(&vm), target, None);
    }
}
