//! What a restore point holds besides disks: the TPM of its own moment, the definition, what libvirt would lose.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{DiskSpec, Lab, Op, Version, Vm, VmSpec, must, virsh};
use rustix::io::Errno;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;
const STATE: &str = "tpm2/tpm2-00.permall";

/// A paused VM with an emulated TPM 2.0.
fn vm_with_tpm(lab: &Lab) -> Vm {
    let tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
    let vm = lab.define(&VmSpec::new("tpm").disk(DiskSpec::new("vda", MIB)).devices_xml(tpm));
    vm.start_paused();
    vm
}

fn uuid(vm: &Vm) -> String {
    virsh(&["domuuid", vm.name()]).trim().to_owned()
}

fn swtpm_dir(vm: &Vm) -> PathBuf {
    Path::new("/var/lib/libvirt/swtpm").join(uuid(vm))
}

/// Gives the VM another TPM: libvirt makes a new one at the next start.
fn replace_tpm(vm: &Vm) {
    vm.destroy();
    fs::remove_dir_all(swtpm_dir(vm)).expect("the state can be removed");
    vm.start_paused();
}

/// Whether a member of group `backup` who is not root can read a file.
fn group_can_read(path: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=backup", "--clear-groups", "cat"]).arg(path);
    command.output().expect("setpriv runs").status.success()
}

#[test]
fn each_point_has_the_tpm_of_its_own_moment() {
    let lab = Lab::configured("tpm");
    let vm = vm_with_tpm(&lab);
    let state = || fs::read(swtpm_dir(&vm).join(STATE)).expect("swtpm keeps its state");
    let first = state();
    assert_eq!(lab.run_well(&vm).report("tpm"), "saved");
    let chain = lab.chain_dir(&vm);
    let at = |number: u32| chain.join(format!(".tpm-state.virtnbdbackup.{number}"));
    assert_eq!(lab.run_well(&vm).report("tpm"), "unchanged");
    let written =
        "SELECT operation, file_type, source_path, dest_path, file_size_bytes > 0 FROM file_operations
        WHERE file_type IN ('config_xml', 'tpm_state') ORDER BY id";
    let definition =
        fs::read_dir(chain.join("config")).expect("definitions").flatten().map(|entry| entry.path());
    let definition = definition.filter(|path| !path.to_string_lossy().contains("FIRST")).min().expect("one");
    let want = [
        format!("create|config_xml|{}||1", definition.display()),
        format!("copy|tpm_state|{}|{}|0", swtpm_dir(&vm).display(), chain.join("tpm-state").display()),
    ];
    assert_eq!(lab.ask(written), want);
    assert_eq!(fs::read_link(at(1)).ok().as_deref(), Some(Path::new(".tpm-state.virtnbdbackup.0")));
    replace_tpm(&vm);
    let second = state();
    assert_ne!(first, second);
    let ended = lab.run_well(&vm);
    assert_eq!((ended.report("tpm").as_str(), ended.level().as_str()), ("saved", "incremental 2"));
    for (number, want) in [(0, &first), (1, &first), (2, &second)] {
        assert_eq!(&fs::read(at(number).join(STATE)).expect("each point has its own"), want, "{number}");
    }
    let verify = || lab.vmstream(&["verify", chain.to_str().expect("text")]);
    let proven = verify();
    assert!(proven.status.success(), "{}", lab::text(&proven));
    // Each of its files counts, also where only an earlier point has it.
    for path in [at(0).join(STATE), at(2).join(STATE), at(2).join("BACKUP_METADATA.txt")] {
        let good = fs::read(&path).expect("it is there");
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        for damage in [Some(&bad), None] {
            match damage {
                Some(bad) => fs::write(&path, bad).expect("damage"),
                None => fs::remove_file(&path).expect("damage"),
            }
            let said = verify();
            let named = lab::text(&said).contains(path.file_name().and_then(|n| n.to_str()).expect("text"));
            assert_eq!((said.status.code(), named), (Some(1), true), "{}", lab::text(&said));
        }
        fs::write(&path, good).expect("mended");
    }
    // Where restore scripts look, and as they look: a folder, with the UUID in a text in it.
    let newest = chain.join("tpm-state");
    assert!(newest.is_dir() && !newest.is_symlink() && chain.join(".tpm-backup-marker").exists());
    assert_eq!(fs::read(newest.join(STATE)).ok(), Some(second.clone()));
    let text = fs::read_to_string(newest.join("BACKUP_METADATA.txt")).expect("the text is there");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("VM UUID:"));
    assert_eq!(line.map(str::trim), Some(uuid(&vm).as_str()), "{text}");
    let copy = lab.path().join("restored");
    fs::create_dir(&copy).expect("the lab has room");
    must(Command::new("cp").arg("-a").arg(newest.join("tpm2")).arg(&copy));
    assert_eq!(fs::read(copy.join(STATE)).ok(), Some(second));
}

#[test]
fn the_bash_program_writes_its_tpm_state_into_no_point_of_ours() {
    let lab = Lab::configured("tpm_bash");
    let vm = vm_with_tpm(&lab);
    let first = fs::read(swtpm_dir(&vm).join(STATE)).expect("swtpm keeps its state");
    lab.run_well(&vm);
    let chain = lab.chain_dir(&vm);
    let (newest, point) = (chain.join("tpm-state"), chain.join(".tpm-state.virtnbdbackup.0"));
    let assert_good = |what: &str| {
        let said = lab.vmstream(&["verify", chain.to_str().expect("text")]);
        assert!(said.status.success(), "{what}: {}", lab::text(&said));
        assert_eq!(fs::read(point.join(STATE)).ok(), Some(first.clone()), "{what}");
    };
    // It copies into whatever is there.
    fs::write(newest.join(STATE), "of a Bash run").expect("a write");
    assert_good("written in place");
    // A tree of the version before, with a link: made a folder, also by a run that cannot read the TPM.
    for has_tpm in [true, false] {
        fs::remove_dir_all(&newest).expect("ours");
        std::os::unix::fs::symlink(".tpm-state.virtnbdbackup.0", &newest).expect("a link");
        let (there, away) = (swtpm_dir(&vm), lab.path().join("swtpm-away"));
        if !has_tpm {
            fs::rename(&there, &away).expect("it can be moved");
        }
        let ended = lab.run_well(&vm);
        if !has_tpm {
            fs::rename(&away, &there).expect("it can be moved");
            assert!(ended.warnings().contains("the TPM's state is not saved"), "{ended:#?}");
        }
        assert!(!newest.is_symlink(), "{ended:#?}");
        assert_eq!(fs::read(newest.join(STATE)).ok(), Some(first.clone()), "{ended:#?}");
        assert_good("with a link");
    }
    // It archives the chain by the names that it knows, and the next chain has points of the same names.
    let archive = chain.join(".archives/chain-2026-01-02");
    fs::create_dir_all(&archive).expect("a folder");
    for entry in fs::read_dir(&chain).expect("a chain").flatten() {
        let name = entry.file_name().into_string().expect("text");
        if !name.starts_with('.') && !name.ends_with(".idx") {
            fs::rename(entry.path(), archive.join(name)).expect("it can be moved");
        }
    }
    vm.delete_checkpoints();
    lab.virtnbdbackup(Version::Distribution, &vm, "full", &chain, &[]);
    for stale in [point.clone(), chain.join(".identity.virtnbdbackup.0.json"), chain.join("vda.full.idx")] {
        assert!(stale.exists(), "{}", stale.display());
    }
    fs::write(point.join(STATE), "no state of the new chain").expect("a write");
    let said = lab.vmstream(&["verify", "--no-archives", chain.to_str().expect("text")]);
    assert!(said.status.success(), "what is beside it is not of the new chain: {}", lab::text(&said));
    fs::write(point.join(STATE), &first).expect("a write");
    let ended = lab.run_well(&vm);
    assert_eq!(
        (ended.level().as_str(), ended.report("tpm").as_str()),
        ("incremental 1", "saved"),
        "{ended:#?}"
    );
    let own = chain.join(".tpm-state.virtnbdbackup.1");
    assert!(!own.is_symlink(), "it is no copy of another chain's");
    assert_eq!(fs::read(own.join(STATE)).ok(), Some(first.clone()));
}

#[test]
fn the_newest_tpm_state_is_renewed_where_names_cannot_be_exchanged() {
    let lab = Lab::new("tpm_fuse");
    let faulty = lab.faulty_file_system("backups");
    faulty.forget_rename_flags();
    lab.configure(&[]);
    let vm = vm_with_tpm(&lab);
    lab.run_well(&vm);
    replace_tpm(&vm);
    lab.run_well(&vm);
    let newest = lab.chain_dir(&vm).join("tpm-state");
    let state = || fs::read(swtpm_dir(&vm).join(STATE)).ok();
    assert_eq!(fs::read(newest.join(STATE)).ok(), state());
    // The second of two renames fails: the next run ends it.
    replace_tpm(&vm);
    // Asked to exchange, renamed away, renamed in.
    faulty.fail_once(Op::Rename, "tpm-state", 2, Errno::IO);
    let ended = lab.run_well(&vm);
    assert!(ended.warnings().contains("is not the newest TPM state"), "{ended:#?}");
    assert!(!newest.exists());
    lab.run_well(&vm);
    assert_eq!(fs::read(newest.join(STATE)).ok(), state());
    let left = fs::read_dir(lab.chain_dir(&vm)).expect("a chain").flatten().map(|entry| entry.file_name());
    let left: Vec<_> =
        left.filter(|name| *name == ".tpm-state.next" || *name == ".tpm-state.former").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_tpm_is_for_root_alone_and_goes_with_its_chain() {
    let lab = Lab::configured("tpm_modes");
    must(Command::new("chmod").arg("o+x").args(lab.path().ancestors().take(1)));
    let vm = vm_with_tpm(&lab);
    lab.run_well(&vm);
    let chain = lab.chain_dir(&vm);
    for folder in [lab.backup_path().as_path(), chain.parent().expect("a VM's folder"), &chain] {
        must(Command::new("chgrp").arg("backup").arg(folder));
        must(Command::new("chmod").arg("2750").arg(folder));
    }
    replace_tpm(&vm);
    lab.run_well(&vm);
    let folder = chain.join(".tpm-state.virtnbdbackup.1");
    for path in [&folder, &folder.join("tpm2"), &folder.join(STATE), &folder.join("BACKUP_METADATA.txt")] {
        let meta = fs::metadata(path).expect("it is there");
        let want = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(
            (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777),
            (0, 0, want),
            "{}",
            path.display()
        );
    }
    assert!(!group_can_read(&chain.join("tpm-state").join(STATE)));
    // Who may not read it proves everything else, and is told.
    must(Command::new("cp").arg(lab::program("vmstream")).arg(lab.path()));
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=backup", "--clear-groups"]).arg(lab.path().join("vmstream"));
    let said = command.arg("verify").arg(&chain).output().expect("setpriv runs");
    let told = lab::text(&said).contains("only root may read the state of the TPM");
    assert_eq!((said.status.code(), told), (Some(0), true), "{}", lab::text(&said));
    // A chain that cannot go on is archived with all of it, as closed as before.
    fs::remove_file(chain.join("vda.full.data")).expect("damage");
    assert_eq!(lab.run_well(&vm).level(), "full");
    let archives: Vec<_> = fs::read_dir(chain.join(".archives")).expect("an archive").flatten().collect();
    let archive = archives[0].path();
    for number in 0..2 {
        let old = archive.join(format!(".tpm-state.virtnbdbackup.{number}"));
        assert_eq!(fs::metadata(&old).expect("moved along").permissions().mode() & 0o7777, 0o700);
        assert!(old.join(STATE).exists());
    }
    assert!(archive.join("tpm-state").join(STATE).exists() && chain.join("tpm-state").join(STATE).exists());
    assert!(!chain.join(".tpm-state.virtnbdbackup.1").exists());
}

#[test]
fn the_definition_and_what_libvirt_would_lose_are_kept() {
    let lab = Lab::configured("definition");
    let vm = lab.paused_vm("vm", &[DiskSpec::new("vda", MIB)]);
    virsh(&["autostart", vm.name()]);
    lab.run_well(&vm);
    lab.run_well(&vm);
    let chain = lab.chain_dir(&vm);
    let names = || {
        let entries = fs::read_dir(chain.join("config")).expect("definitions").flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
        names.sort();
        names
    };
    let kept = names();
    assert_eq!(kept.len(), 2, "one definition, and it is the first: {kept:?}");
    assert!(
        kept[1].ends_with("_FIRST.xml") && kept.iter().all(|name| name.starts_with(vm.name())),
        "{kept:?}"
    );
    virsh(&["desc", vm.name(), "--config", "changed"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    lab.run_well(&vm);
    assert_eq!(names().len(), 3, "another definition is kept");
    let file = chain.join(".identity.virtnbdbackup.1.json");
    let facts: serde_json::Value = serde_json::from_slice(&fs::read(file).expect("facts")).expect("JSON");
    assert_eq!((&facts["name"], &facts["autostart"]), (&vm.name().into(), &true.into()));
    assert_eq!(facts["checkpoints"].as_array().map(Vec::len), Some(2), "{facts}");
    for xml in ["live_xml", "inactive_xml"] {
        assert!(facts[xml].as_str().is_some_and(|xml| xml.contains("<domain")), "{xml}");
    }
}

#[test]
fn keys_that_older_programs_left_to_the_group_are_roots_alone() {
    let lab = Lab::configured("old_keys");
    must(Command::new("chmod").arg("o+x").arg(lab.path()));
    let vm = lab.paused_vm("vm", &[DiskSpec::new("vda", MIB)]);
    lab.run_well(&vm);
    // What the Bash program and virtnbdbackup leave: also of a VM that is gone, also in its archives.
    let old = lab.backup_path().join("gold1/202611");
    let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmbackup-0.5.3-lz4.tar");
    must(Command::new("tar").arg("xf").arg(tar).arg("-C").arg(lab.backup_path()));
    let archive = old.join(".archives/chain-2026-11-01");
    let host = lab.backup_path().join("__HOST_CONFIG__/202601");
    let chain = lab.chain_dir(&vm);
    let mut keys = vec![host.join("libvirt_qemu_config_202601_FIRST.tar.gz")];
    for folder in [&old, &archive, &chain] {
        for name in [STATE, "BACKUP_METADATA.txt", "bitlocker-recovery-keys.txt"] {
            keys.push(folder.join("tpm-state").join(name));
        }
        keys.push(folder.join("bitlocker.recovery.key.C:.virtnbdbackup.0"));
    }
    for key in &keys {
        fs::create_dir_all(key.parent().expect("a folder")).expect("the lab has room");
        fs::write(key, "key").expect("the lab has room");
    }
    let osinfo = chain.join("osinfo.virtnbdbackup.0");
    fs::write(&osinfo, "no key").expect("the lab has room");
    let outside = lab.path().join("outside");
    fs::write(&outside, "open").expect("the lab has room");
    std::os::unix::fs::symlink(&outside, old.join("bitlocker.recovery.key.D:.virtnbdbackup.0"))
        .expect("a link");
    std::os::unix::fs::symlink(lab.path(), archive.join("tpm-state/elsewhere")).expect("a link");
    must(Command::new("chgrp").args(["-R", "backup"]).arg(lab.backup_path()));
    must(Command::new("chmod").args(["-R", "u=rwX,g=rX,o="]).arg(lab.backup_path()));
    assert!(keys.iter().all(|key| group_can_read(key)), "as it was");

    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("with keys could be read by others"), "{}", ended.log);
    for key in &keys {
        assert!(!group_can_read(key), "{}", key.display());
        let about = fs::metadata(key).expect("it stays");
        assert_eq!(
            (about.uid(), about.gid(), about.permissions().mode() & 0o7777),
            (0, 0, 0o600),
            "{}",
            key.display()
        );
        assert_eq!(fs::read_to_string(key).ok().as_deref(), Some("key"));
    }
    // Nothing but keys was closed, and nothing outside.
    let about = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!((about(&outside), about(lab.path()) & 0o001), (0o644, 1));
    for readable in
        [&osinfo, &old.join("vda.full.data"), &old.join("gold1.cpt"), &chain.join("vda.full.data")]
    {
        assert!(group_can_read(readable), "{}", readable.display());
    }
    let ended = lab.run_well(&vm);
    assert!(!ended.log.contains("with keys could be read by others"), "{}", ended.log);
}

#[test]
fn a_uefi_vm_keeps_its_loader_and_the_variables_of_each_moment() {
    const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    const TEMPLATE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
    let lab = Lab::configured("uefi");
    // A name that old restore programs would also find in that of another file.
    let nvram = lab.path().join("VARS_4M.fd");
    let os = format!(
        "<loader readonly='yes' type='pflash'>{CODE}</loader><nvram template='{TEMPLATE}'>{}</nvram>",
        nvram.display()
    );
    let vm = lab.define(&VmSpec::new("uefi").disk(DiskSpec::new("vda", MIB)).os_xml(&os));
    vm.start_paused();
    let template = fs::read(TEMPLATE).expect("ovmf is installed");
    let variables = |mark: u8| {
        let mut content = template.clone();
        content[100..200].fill(mark);
        content
    };
    // As the guest's firmware does it: in place.
    let change = |mark: u8| {
        let file =
            fs::OpenOptions::new().write(true).open(&nvram).expect("libvirt made it from the template");
        std::os::unix::fs::FileExt::write_all_at(&file, &variables(mark), 0).expect("a write");
    };
    change(1);
    lab.run_well(&vm);
    change(2);
    // Later than the moment of the point, while its disks are copied.
    let held = lab.run_held_at(&vm, FailPoint::Copying);
    change(3);
    held.release();
    assert!(held.wait().status.success());
    let chain = lab.chain_dir(&vm);
    for (number, mark) in [(0, 1), (1, 2)] {
        let at = |base: &str| chain.join(format!("{base}.virtnbdbackup.{number}"));
        assert!(fs::read(at("VARS_4M.fd")).ok() == Some(variables(mark)), "NVRAM of point {number}");
        assert!(fs::read(at("OVMF_CODE_4M.fd")).ok() == fs::read(CODE).ok(), "loader of point {number}");
        assert!(
            fs::read(at("varstore-template")).ok() == Some(template.clone()),
            "template of point {number}"
        );
        let mode = fs::metadata(at("VARS_4M.fd")).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o137, 0, "nobody but root and its group");
    }
    let definitions = fs::read_dir(chain.join("config")).expect("definitions").flatten();
    for definition in definitions.map(|entry| fs::read_to_string(entry.path()).expect("text")) {
        assert!(definition.contains(&format!("{}</nvram>", nvram.display())), "{definition}");
    }
    let proven = lab.vmstream(&["verify", chain.to_str().expect("text")]);
    assert!(proven.status.success(), "{}", lab::text(&proven));
    // Restore programs put the NVRAM back where it was, when it is gone.
    vm.destroy();
    for version in Version::ALL {
        fs::remove_file(&nvram).expect("the NVRAM is there");
        lab.assert_virtnbdrestore(version, &chain, None, &[("vda", vm.shadow("vda"))]);
        assert!(fs::read(&nvram).ok() == Some(variables(2)), "{version:?}");
    }
    // Off: a copy has them under their own names.
    change(4);
    assert_eq!(lab.run_well(&vm).level(), "copy");
    assert!(fs::read(chain.join("VARS_4M.fd")).ok() == Some(variables(4)));
    assert!(fs::read(chain.join("varstore-template")).ok() == Some(template));
}

#[test]
fn a_tpm_of_version_1_2() {
    let lab = Lab::configured("tpm12");
    let tpm = "<tpm model='tpm-tis'><backend type='emulator' version='1.2'/></tpm>";
    let vm = lab.define(&VmSpec::new("tpm12").disk(DiskSpec::new("vda", MIB)).devices_xml(tpm));
    vm.start_paused();
    let folder = swtpm_dir(&vm).join("tpm1.2");
    let names = fs::read_dir(&folder).expect("swtpm keeps its state").flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != ".lock").collect();
    assert!(!names.is_empty());
    assert_eq!(lab.run_well(&vm).report("tpm"), "saved");
    let chain = lab.chain_dir(&vm);
    for name in names {
        let kept = fs::read(chain.join("tpm-state/tpm1.2").join(&name));
        assert_eq!(kept.ok(), fs::read(folder.join(&name)).ok(), "{name:?}");
    }
    vm.destroy();
    assert_eq!(lab.run_well(&vm).report("tpm"), "saved");
}

#[test]
fn what_a_vm_boots_from_is_kept_under_names_that_do_not_clash() {
    let lab = Lab::configured("boot_files");
    let file = |folder: &str, content: &str| {
        let path = lab.new_dir(folder).join("image");
        fs::write(&path, content).expect("a file");
        path
    };
    let (kernel, initrd) = (file("kernel", "a kernel"), file("initrd", "an initrd"));
    let table = file("acpi", "a licence");
    let os = format!(
        "<kernel>{}</kernel><initrd>{}</initrd><cmdline>quiet</cmdline><acpi><table type='slic'>{}</table></acpi>",
        kernel.display(),
        initrd.display(),
        table.display()
    );
    let vm = lab.define(&VmSpec::new("boot").disk(DiskSpec::new("vda", MIB)).os_xml(&os));
    virsh(&["autostart", vm.name()]);
    assert_eq!(lab.run_well(&vm).level(), "copy");
    let chain = lab.chain_dir(&vm);
    let read = |name: &str| fs::read_to_string(chain.join(name)).unwrap_or_default();
    assert_eq!(["image", "2.image", "3.image"].map(read), ["a kernel", "an initrd", "a licence"]);
    assert_eq!(read("autostart.copy"), "True");
    assert!(read("vmconfig.copy.xml").contains("<cmdline>quiet</cmdline>"));
    let proven = lab.vmstream(&["verify", chain.to_str().expect("text")]);
    assert!(proven.status.success(), "{}", lab::text(&proven));
}
