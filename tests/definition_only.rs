//! VMs of which no disk can be or is to be saved: their definition is, with what belongs to it, and every program knows what that is.

use std::fs::{self, File};
use std::path::Path;

use lab::{DiskSpec, Ended, Lab, Vm, VmSpec, make_ext4, text, virsh};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn stream(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.vmstream(arguments);
    (output.status.code(), text(&output))
}

fn dir_text(dir: &Path) -> &str {
    dir.to_str().expect("the lab's path is text")
}

#[track_caller]
fn saved(lab: &Lab, vm: &Vm) -> Ended {
    let ended = lab.run_well(vm);
    let told = (ended.level(), ended.vm_status(), ended.report("points"));
    assert_eq!(told, ("copy".into(), "ok".into(), "1".into()), "{ended:#?}");
    assert!(ended.why().starts_with("definition only"), "{}", ended.why());
    let dir = lab.chain_dir(vm);
    let xml = fs::read_to_string(dir.join("vmconfig.copy.xml")).expect("a definition");
    assert!(xml.contains(&format!("<name>{}</name>", vm.name())), "{xml}");
    for depth in ["--quick", "--deep"] {
        let (code, said) = stream(lab, &["verify", depth, dir_text(&dir)]);
        assert!(code == Some(0) && said.contains("definition only"), "{depth}: {code:?} {said}");
    }
    ended
}

#[test]
fn a_vm_keeps_its_definition_whatever_disks_it_has_not() {
    let lab = Lab::configured("definition");
    let served = lab.path().join("served.raw");
    make_ext4(&served, 4 * MIB);
    let server = lab.nbd_server(&served);
    let iso = lab.path().join("a.iso");
    File::create(&iso).and_then(|file| file.set_len(MIB)).expect("a file");
    let excluded = VmSpec::new("excluded").disk(DiskSpec::new("vda", MIB));
    let specs = [
        VmSpec::new("diskless"),
        VmSpec::new("cd").cdrom("sdc", Some(&iso)).floppy("fda", None),
        VmSpec::new("network").network_disk("vdn", server.socket()),
        VmSpec::new("others")
            .disk(DiskSpec::new("vda", MIB).extra_xml("<readonly/>"))
            .disk(DiskSpec::new("vdb", MIB).extra_xml("<transient/>")),
        excluded,
    ];
    for spec in specs {
        let vm = lab.define(&spec);
        let overrides = format!("VM_EXCLUDE_DISKS[\"{}\"]=\"vda\"\n", vm.name());
        fs::write(lab.config_dir().join("default/vm_overrides.conf"), overrides).expect("it is ours");
        // Off, unchanged, and running.
        saved(&lab, &vm);
        assert_eq!(lab.run_well(&vm).level(), "skip", "{}", spec.name);
        vm.start_paused();
        saved(&lab, &vm);
        let plan = lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
        assert!(plan.status.success() && text(&plan).contains("definition only"), "{}", text(&plan));
        saved(&lab, &vm);
        assert_eq!(lab.ask("SELECT DISTINCT status FROM vm_backups WHERE backup_type = 'full'"), ["success"]);
        vm.destroy();
    }
}

#[test]
fn what_a_vm_without_disks_writes_is_kept_and_saved_again_when_it_changed() {
    let lab = Lab::configured("definition_state");
    let tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
    let variables = lab.path().join("VARS.fd");
    let os = format!(
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
        <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{}</nvram>",
        variables.display()
    );
    let with_tpm = lab.define(&VmSpec::new("tpm").devices_xml(tpm));
    let state = Path::new("/var/lib/libvirt/swtpm").join(virsh(&["domuuid", with_tpm.name()]).trim());
    let of_tpm = (".tpm-state.copy/tpm2/tpm2-00.permall", "tpm2-00.permall");
    let uefi = lab.define(&VmSpec::new("uefi").os_xml(&os));
    for (vm, written, (kept, named)) in
        [(with_tpm, state.join("tpm2/tpm2-00.permall"), of_tpm), (uefi, variables, ("VARS.fd", "VARS.fd"))]
    {
        vm.start_paused();
        saved(&lab, &vm);
        vm.destroy();
        // What was saved of a VM that ran says nothing of it as it is off.
        saved(&lab, &vm);
        assert_eq!(lab.run_well(&vm).level(), "skip");
        // As if it ran meanwhile.
        fs::write(&written, fs::read(&written).expect("a state")).expect("ours");
        let plan = text(&lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]));
        assert!(plan.contains("definition only"), "{plan}");
        saved(&lab, &vm);
        assert_eq!(lab.run_well(&vm).level(), "skip");
        let kept = lab.chain_dir(&vm).join(kept);
        let content = fs::read(&kept).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
        assert!(content == fs::read(&written).expect("a state"), "{named}");
        fs::write(&kept, &content[1..]).expect("ours");
        let (code, said) = stream(&lab, &["verify", dir_text(&lab.chain_dir(&vm))]);
        assert!(code == Some(1) && said.contains(named), "{code:?} {said}");
    }
}

#[test]
fn every_command_says_what_a_definition_alone_is() {
    let lab = Lab::configured("definition_said");
    let served = lab.path().join("served.raw");
    make_ext4(&served, 4 * MIB);
    let server = lab.nbd_server(&served);
    let vm = lab.define(&VmSpec::new("network").network_disk("vdn", server.socket()));
    saved(&lab, &vm);
    let dir = lab.chain_dir(&vm);
    let set = dir_text(&dir);
    let out = lab.path().join("out");
    let holds = "holds the definition only, no disk; vdn is left out: network disk (nbd), back it up where it is stored";
    let refusals: [&[&str]; 5] = [
        &["extract", set, "-o", dir_text(&out)],
        &["extract", set, "--all", dir_text(&out)],
        &["cat", set],
        &["map", set],
        &["compare", set, dir_text(&served)],
    ];
    let plain = |said: String| said.split_whitespace().collect::<Vec<_>>().join(" ");
    for arguments in refusals {
        let (code, said) = stream(&lab, arguments);
        assert!(code == Some(2) && plain(said.clone()).contains(holds), "{arguments:?}: {code:?} {said}");
    }
    assert!(!out.exists());
    let (code, said) = stream(&lab, &["convert", set, "--to", dir_text(&out), "--compression", "zstd"]);
    assert!(code == Some(2) && said.contains("definition of a VM only"), "{code:?} {said}");
    let (code, said) = stream(&lab, &["doctor", set]);
    assert!(code == Some(0) && said.contains("nothing to fear"), "{code:?} {said}");
    let (code, said) = stream(&lab, &["info", set]);
    assert!(code == Some(0) && plain(said.clone()).contains(holds), "{code:?} {said}");
    let json = |command: &str| -> Value {
        let output = lab.vmstream(&[command, set, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(lab::schema::complaints(&format!("vmstream-{command}-1"), &found), "", "{found:#}");
        found["sets"][0]["points"][0].clone()
    };
    let point = json("info");
    assert_eq!((&point["definition_only"], &point["disks"]), (&json!(true), &json!({})));
    assert_eq!(point["left_out"][0]["disk"], "vdn");
    assert_eq!(json("verify")["definition_only"], json!(true));
    // In a tree it is a set like any other, and what lost its disks is none.
    let (code, said) = stream(&lab, &["verify", dir_text(lab.backup_path().as_path())]);
    assert!(code == Some(0) && said.contains("definition only"), "{code:?} {said}");
    // Its files are proven.
    let config = dir.join("vmconfig.copy.xml");
    let whole = fs::read_to_string(&config).expect("a definition");
    fs::write(&config, whole.replace("64", "65")).expect("ours");
    let (code, said) = stream(&lab, &["verify", set]);
    assert!(code == Some(1) && said.contains("not as it was written"), "{code:?} {said}");
    fs::write(&config, whole).expect("ours");
    let identity = dir.join(".identity.copy.json");
    let facts = fs::read_to_string(&identity).expect("facts");
    fs::write(&identity, facts.replace("\"disks\": []", "\"disks\": [\"vda\"]")).expect("ours");
    let (code, said) = stream(&lab, &["verify", set]);
    assert!(code == Some(2) && said.contains("holds no backup set"), "{code:?} {said}");
}

#[test]
fn what_a_definition_takes_the_place_of_is_archived_and_counts_first() {
    let lab = Lab::configured("definition_retention");
    let vm = lab.define(&VmSpec::new("vm").disk(DiskSpec::new("vda", MIB)));
    let overrides = |text: String| {
        fs::write(lab.config_dir().join("default/vm_overrides.conf"), text).expect("it is ours");
    };
    let daily = format!("VM_POLICY[\"{}\"]=\"daily\"\n", vm.name());
    let without = format!("{daily}VM_EXCLUDE_DISKS[\"{}\"]=\"vda\"\n", vm.name());
    lab.configure(&[("RETENTION_DAYS", "2"), ("SKIP_OFFLINE_UNCHANGED_BACKUPS", "no")]);
    let run = |day: u32| {
        let ended = lab.run_at(&format!("2026-11-{day:02}T10:00:00Z"), &[&vm]);
        assert!(ended.status.success(), "{ended:#?}");
    };
    let periods = || {
        let found = fs::read_dir(lab.vm_dir(&vm)).expect("a folder").flatten();
        let mut found: Vec<_> = found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        found.retain(|name| name.starts_with("2026"));
        found.sort();
        found
    };
    // One with its disk, then four without: those do not count while it is there.
    overrides(daily.clone());
    run(1);
    overrides(without);
    for day in 2..6 {
        run(day);
    }
    assert_eq!(periods(), ["20261101", "20261102", "20261103", "20261104", "20261105"]);
    // With disks again: two that have some stay, and what is older than they are goes.
    overrides(daily);
    run(6);
    assert_eq!(periods().len(), 6);
    run(7);
    assert_eq!(periods(), ["20261106", "20261107"]);
    // A definition in the place of a chain: the chain is in its archive.
    let dir = lab.vm_dir(&vm).join("20261107");
    overrides(format!("VM_POLICY[\"{0}\"]=\"daily\"\nVM_EXCLUDE_DISKS[\"{0}\"]=\"vda\"\n", vm.name()));
    run(7);
    let archived =
        fs::read_dir(dir.join(".archives")).expect("an archive").flatten().next().expect("a chain");
    assert!(archived.path().join("vda.copy.data").exists());
    // A VM that never had a disk keeps as many as any other.
    let bare = lab.define(&VmSpec::new("bare"));
    overrides(format!("VM_POLICY[\"{}\"]=\"daily\"\n", bare.name()));
    for day in 1..5 {
        let ended = lab.run_at(&format!("2026-11-{day:02}T10:00:00Z"), &[&bare]);
        assert!(ended.status.success(), "{ended:#?}");
    }
    let found = fs::read_dir(lab.vm_dir(&bare)).expect("a folder").flatten();
    let found = found.filter(|entry| entry.file_name().to_string_lossy().starts_with("2026"));
    assert_eq!(found.count(), 2);
}
