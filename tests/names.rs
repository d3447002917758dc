//! Whose a folder is: names that become one folder, file systems that fold case, names that some file systems refuse.

use std::collections::BTreeSet;

use std::path::Path;
use std::process::Command;

use lab::{DiskOp, DiskSpec, Ended, Lab, Vm, VmSpec, extract, virsh};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn small_vm(lab: &Lab, name: &str) -> Vm {
    let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm
}

/// Status of each VM of a run, and what it failed with.
fn ends(lab: &Lab, vms: &[&Vm]) -> Vec<(String, String)> {
    let output = lab.run_command(vms).output().expect("vmbackup can be run");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let word = |vm: &Value, key: &str| vm[key].as_str().unwrap_or_default().to_owned();
    json["vms"].as_array().expect("VMs").iter().map(|vm| (word(vm, "status"), word(vm, "error"))).collect()
}

fn well(lab: &Lab, vm: &Vm, level: &str) -> Ended {
    let ended = lab.run_well(vm);
    assert_eq!(ended.level(), level, "{ended:#?}");
    ended
}

/// Each VM that a command told of as JSON, by name.
fn told(lab: &Lab, arguments: &[&str], key: &str) -> BTreeSet<String> {
    let output = lab.vmbackup(arguments);
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
    let vms = json.get("vms").unwrap_or(&json).as_array().expect("VMs");
    vms.iter().map(|vm| vm[key].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn whatever_a_vm_is_called_it_is_backed_up_and_every_command_sees_it() {
    let lab = Lab::new("any_name");
    lab.configure(&[("HOST_CONFIG_BACKUP", "yes")]);
    let fill = |bytes: usize| "x".repeat(bytes - lab.prefix().len());
    // Libvirt takes 247 bytes: `NAME.xml.new` is a file of its.
    let names = [".hidden", "übung", "web 1", "🦀", "-'\"\\$", "tab\there", &fill(200), &fill(247), "a,b"];
    let vms: Vec<Vm> = names.iter().map(|name| small_vm(&lab, name)).collect();
    let vms: Vec<&Vm> = vms.iter().collect();
    for stamp in [20, 40] {
        (stamp..).zip(&vms).for_each(|(stamp, vm)| vm.write("vda", 0, 4096, stamp).expect("a write"));
        let all = ends(&lab, &vms);
        assert!(all.iter().all(|(status, _)| status == "ok"), "{all:?}");
    }
    assert!(vms[0].name().starts_with('.') && vms[7].name().len() == 247, "{vms:?}");
    let known: BTreeSet<String> = vms.iter().map(|vm| vm.name().to_owned()).collect();
    let mut listed = told(&lab, &["--status", "--json"], "vm");
    listed.retain(|name| name.contains(lab.prefix()));
    assert_eq!(listed, known, "status");
    let folder = |vm: &Vm| lab.vm_dir(vm).file_name().expect("a name").to_str().expect("text").to_owned();
    let folders: BTreeSet<String> = vms.iter().map(|vm| folder(vm)).collect();
    assert_eq!(told(&lab, &["--prune", "list", "--json"], "folder"), folders, "retention");
    let database =
        rusqlite::Connection::open(lab.backup_path().join("_state/vmbackup.db")).expect("a database");
    let mut rows = database.prepare("SELECT vm_name FROM vm_backups").expect("a table");
    let rows = rows.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row"));
    assert_eq!(rows.collect::<BTreeSet<String>>(), known, "the database");
    for vm in vms {
        let one = told(&lab, &["--prune", "list", "--json", "--vm", vm.name()], "folder");
        assert_eq!(one, BTreeSet::from([folder(vm)]), "{}", vm.name());
        let one = told(&lab, &["--status", "--json", &format!("--vm={},", vm.name())], "vm");
        assert_eq!(one, BTreeSet::from([vm.name().to_owned()]));
        let chain = lab.chain_dir(vm);
        let verified = lab.vmstream(&["verify", chain.to_str().expect("text")]);
        assert!(verified.status.success(), "{}: {verified:?}", vm.name());
        let raw = extract(&lab, &chain, "vda", None);
        assert_eq!(vm.shadow("vda").equals(&raw), Ok(()), "{}", vm.name());
    }
    let ours = names_in(&lab, "__HOST_CONFIG__");
    assert!(!ours.is_empty() && ours.iter().all(|name| name.starts_with("host_config_")), "{ours:?}");
}

/// What lies in a folder of the backup path.
fn names_in(lab: &Lab, folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(lab.backup_path().join(folder)).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
}

/// A VM of the lab under another name, for as long as this lives.
struct Renamed<'a> {
    vm: &'a Vm,
    name: &'a str,
}

impl<'a> Renamed<'a> {
    fn to(vm: &'a Vm, name: &'a str) -> Self {
        virsh(&["domrename", "--domain", vm.name(), "--new-name", name]);
        Self { vm, name }
    }
}

impl Drop for Renamed<'_> {
    fn drop(&mut self) {
        let back = ["domrename", "--domain", self.name, "--new-name", self.vm.name()];
        let _ = Command::new("virsh").args(back).output();
    }
}

#[test]
fn a_vm_called_like_a_folder_of_ours_is_never_mixed_with_it() {
    let lab = Lab::new("our_names");
    lab.configure(&[("HOST_CONFIG_BACKUP", "yes")]);
    let vm = lab.define(&VmSpec::new("web").disk(DiskSpec::new("vda", 2 * MIB)));
    vm.run_while_off("vda", &[DiskOp::Write { offset: 0, len: MIB, pattern: 3 }]);
    for (name, folder) in [
        ("__HOST_CONFIG__", None),
        ("_state", None),
        ("tpm-state", None),
        (".archives", Some("_archives")),
        (".deleting-prune-202611", Some("_deleting-prune-202611")),
    ] {
        let _renamed = Renamed::to(&vm, name);
        let output = lab.vmbackup(&["--run", "--json", "--vm", name]);
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let (status, error) =
            (&json["vms"][0]["status"], json["vms"][0]["error"].as_str().unwrap_or_default());
        match folder {
            Some(folder) => {
                assert_eq!(status, "ok", "{name}: {json}");
                let dir = json["vms"][0]["dir"].as_str().expect("a folder");
                let dir = Path::new(dir);
                assert!(dir.starts_with(lab.backup_path().join(folder)), "{name}: {}", dir.display());
                let raw = extract(&lab, dir, "vda", None);
                assert_eq!(std::fs::metadata(raw).expect("an image").len(), 2 * MIB, "{name}");
            }
            None => {
                assert_eq!(status, "failed", "{name}: {json}");
                assert!(error.contains("is reserved") && error.contains(name), "{name}: {error}");
            }
        }
    }
    let top = names_in(&lab, ".");
    assert_eq!(
        top,
        ["__HOST_CONFIG__", "_archives", "_deleting-prune-202611", "_state"].map(str::to_owned).into()
    );
    let versions = names_in(&lab, "__HOST_CONFIG__");
    assert!(
        !versions.is_empty() && versions.iter().all(|name| name.starts_with("host_config_")),
        "{versions:?}"
    );
    let is_of_set = |name: &String| name.contains(".data") || name.starts_with("vmconfig.");
    assert!(!names_in(&lab, "_state").iter().any(is_of_set));
    let listed = told(&lab, &["--prune", "list", "--json"], "folder");
    assert_eq!(listed, ["_archives", "_deleting-prune-202611"].map(str::to_owned).into());
}

#[test]
fn a_newcomer_stops_nobodys_backups() {
    let lab = Lab::configured("newcomer");
    let old = small_vm(&lab, "pub-测试");
    well(&lab, &old, "full");
    let new = small_vm(&lab, "pub-生产");
    old.write("vda", 0, 4096, 2).expect("a write");
    let both = ends(&lab, &[&new, &old]);
    assert_eq!([&both[0].0, &both[1].0], ["failed", "ok"], "{both:?}");
    let owner = format!("where VM {} has its backups", old.name());
    assert!(both[0].1.contains(&owner), "{both:?}");
    assert!(new.checkpoints().is_empty());
    old.write("vda", 0, 4096, 3).expect("a write");
    well(&lab, &old, "incremental 2");
    let raw = extract(&lab, &lab.chain_dir(&old), "vda", None);
    assert_eq!(old.shadow("vda").equals(&raw), Ok(()));

    // The new one is not to be backed up: that is no failure either.
    let never = format!("VM_POLICY[\"{}\"]=\"never\"\n", new.name());
    std::fs::write(lab.config_dir().join("default/vm_overrides.conf"), never).expect("the configuration");
    old.write("vda", 0, 4096, 4).expect("a write");
    let both = ends(&lab, &[&new, &old]);
    assert_eq!([&both[0].0, &both[1].0], ["excluded", "ok"], "{both:?}");
}

#[test]
fn names_that_differ_in_case_are_one_where_the_file_system_says_so() {
    let lab = Lab::new("case");
    let target = lab.faulty_file_system("dos");
    target.take_dos_names();
    lab.configure(&[("BACKUP_PATH", target.text())]);
    let old = small_vm(&lab, "web");
    let chain = || lab::chain_dir_below(target.path(), &old);
    well(&lab, &old, "full");
    let new = small_vm(&lab, "Web");
    old.write("vda", 0, 4096, 2).expect("a write");
    let both = ends(&lab, &[&new, &old]);
    assert_eq!([&both[0].0, &both[1].0], ["failed", "ok"], "{both:?}");
    assert!(both[0].1.contains("no difference between upper and lower case"), "{both:?}");
    assert!(!chain().join(".archives").exists());
    let raw = extract(&lab, &chain(), "vda", None);
    assert_eq!(old.shadow("vda").equals(&raw), Ok(()));
    // Elsewhere they are two.
    lab.configure(&[]);
    well(&lab, &new, "full");
}

#[test]
fn a_name_that_the_file_system_refuses_keeps_no_vm_from_its_backup() {
    let lab = Lab::new("refused_name");
    let target = lab.faulty_file_system("dos");
    target.take_dos_names();
    lab.configure(&[("BACKUP_PATH", target.text())]);
    let vm = small_vm(&lab, "a:b");
    let folder = || lab::chain_dir_below(target.path(), &vm);
    for (stamp, level) in [(2, "full"), (3, "incremental 1"), (4, "incremental 2")] {
        vm.write("vda", 0, 4096, stamp).expect("a write");
        well(&lab, &vm, level);
        let raw = extract(&lab, &folder(), "vda", None);
        assert_eq!(vm.shadow("vda").equals(&raw), Ok(()), "{level}");
        // Logs of one second are one file.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let logs = target.path().join("_state/logs");
    let escaped = format!("backup_{}_", vm.name().replace(':', "%3A"));
    let names = std::fs::read_dir(logs).expect("logs").flatten().map(|entry| entry.file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with(&escaped)).count(), 3);
}
