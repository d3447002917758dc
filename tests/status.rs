//! `--status`, as a person and a monitor ask for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use lab::schema::answer;
use lab::{DiskFormat, DiskSpec, Lab, Vm, VmSpec, World, must, text, virsh};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;
const VM: i32 = 5;

fn written_vm(lab: &Lab, name: &str) -> Vm {
    let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm
}

/// The answer about some VMs, with how the program ended.
fn asked(lab: &Lab, vms: &[&Vm], more: &[&str]) -> (Option<i32>, Value) {
    let names = vms.iter().map(|vm| vm.name()).collect::<Vec<_>>().join(",");
    let output = lab.vmbackup(&[&["--status", "--json", "--vm", &names], more].concat());
    (output.status.code(), answer("status", &output))
}

fn of<'a>(status: &'a Value, vm: &Vm) -> &'a Value {
    status["vms"].as_array().expect("a list").iter().find(|it| it["vm"] == vm.name()).expect("it is there")
}

/// The lines of the table that are about a VM: its own and the remarks below.
fn about(table: &str, vm: &Vm) -> String {
    let mut lines = table.lines().skip_while(|line| !line.starts_with(vm.name()));
    let own = lines.next().unwrap_or_default().to_owned();
    lines.take_while(|line| line.starts_with("    ")).fold(own, |all, line| all + " " + line.trim())
}

#[test]
fn a_person_sees_which_vm_needs_somebody_and_why() {
    let lab = Lab::configured("status_table");
    let (good, failing) = (written_vm(&lab, "good"), written_vm(&lab, "fail"));
    let (damaged, forgotten) = (written_vm(&lab, "hurt"), written_vm(&lab, "gone"));
    let off = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let (never, new) =
        (lab.define(&VmSpec::new("never").disk(DiskSpec::new("vda", MIB))), written_vm(&lab, "new"));
    let overrides = lab.config_dir().join("default/vm_overrides.conf");
    fs::write(overrides, format!("VM_POLICY[\"{}\"]=\"never\"\n", never.name())).expect("a file");
    for vm in [&good, &failing, &damaged, &forgotten, &off, &off] {
        lab.run_well(vm);
    }
    virsh(&["checkpoint-create-as", failing.name(), "mine"]);
    for _ in 0..2 {
        assert_eq!(lab.run(&failing).status.code(), Some(VM));
    }
    damaged.write("vda", MIB, 512, 2).expect("a write");
    lab.run_well(&damaged);
    fs::remove_file(lab.chain_dir(&damaged).join("vda.inc.virtnbdbackup.1.data")).expect("a stream");
    forgotten.destroy();
    let xml = forgotten.xml();
    virsh(&["undefine", forgotten.name(), "--checkpoints-metadata"]);
    let left = lab.chain_dir(&good).join("vda.inc.virtnbdbackup.9.data.partial");
    fs::write(&left, vec![7; 3 << 20]).expect("the lab has room");

    let vms = [&good, &failing, &damaged, &forgotten, &off, &never, &new];
    let before = World::of(&lab, &[&good]);
    let (code, status) = asked(&lab, &vms, &[]);
    assert_eq!(code, Some(VM), "{status:#}");
    let health = vms.map(|vm| of(&status, vm)["health"].as_str().expect("a word").to_owned());
    assert_eq!(
        health,
        ["good", "failing", "damaged", "good", "good", "no_backup", "no_backup"],
        "{status:#}"
    );
    let faulty = vms.map(|vm| of(&status, vm)["faults"].as_array().map_or(0, Vec::len));
    assert_eq!(faulty, [0, 0, 0, 0, 0, 0, 1], "{status:#}");
    assert_eq!(of(&status, &failing)["failed_tries"], 2);
    assert_eq!(of(&status, &off)["last_run"]["result"], "unchanged");
    let totals = &status["totals"];
    assert_eq!([&totals["backed_up"], &totals["excluded"], &totals["forgotten"]], [5, 1, 1], "{totals:#}");

    let names = vms.map(Vm::name).join(",");
    let output = lab.vmbackup(&["--status", "--vm", &names]);
    let table = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(output.status.code(), Some(VM), "{table}");
    assert!(table.starts_with("VM "), "{table}");
    let wide: Vec<&str> =
        table.lines().filter(|line| line.chars().count() > 80 && !line.contains('/')).collect();
    assert!(wide.is_empty(), "{wide:#?}\n{table}");
    for (vm, words) in [
        (&good, "good 1 unfinished file(s), 3.00 MiB, of a backup that was killed"),
        (&failing, "FAILING 2 tries failed since the last success: "),
        (&damaged, "1 of 2"),
        (&damaged, "Disk vda has no stream at virtnbdbackup.1"),
        (&off, "unchanged, "),
        (&new, "NO BACKUP NO RESTORE POINT"),
    ] {
        assert!(about(&table, vm).contains(words), "no {words:?} in {}\n{table}", about(&table, vm));
    }
    let titles =
        ["Not backed up, because the policy is never:", "Forgotten: libvirt does not know them any more"];
    let place = |words: &str| table.find(words).unwrap_or_else(|| panic!("no {words:?} in {table}"));
    assert!(place(new.name()) < place(titles[0]) && place(titles[0]) < place(never.name()), "{table}");
    assert!(place(titles[1]) < place(forgotten.name()), "{table}");
    assert!(table.ends_with("1 VM(s) need somebody: see the words in capitals\n"), "{table}");
    World::of(&lab, &[&good]).assert_is(&before);

    // Without those that need somebody all is well.
    assert_eq!(asked(&lab, &[&good, &off, &never, &forgotten], &[]).0, Some(0));
    let file = lab.path().join("gone.xml");
    fs::write(&file, xml).expect("a file");
    virsh(&["define", file.to_str().expect("text")]);
}

#[test]
fn an_age_is_judged_where_somebody_says_so() {
    let lab = Lab::configured("status_age");
    let vm = written_vm(&lab, "web");
    lab.run_well(&vm);
    let later = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(30)).to_string();
    let ask = |more: &[&str]| -> Output {
        let mut command = lab.vmbackup_command();
        command.args(["--status", "--vm", vm.name()]).args(more).env("VMBACKUP_TEST_NOW", &later);
        command.output().expect("vmbackup can be started")
    };
    assert_eq!(ask(&[]).status.code(), Some(0), "{}", text(&ask(&[])));
    let old = ask(&["--max-age", "26h"]);
    assert_eq!(old.status.code(), Some(VM), "{}", text(&old));
    assert!(text(&old).contains("TOO OLD: 30 h, and 26 h are allowed"), "{}", text(&old));
    assert_eq!(ask(&["--max-age", "2d"]).status.code(), Some(0));
    lab.configure(&[("MAX_AGE", "26h")]);
    let old = answer("status", &ask(&["--json"]));
    assert_eq!((&old["exit_code"], &old["max_age_seconds"]), (&VM.into(), &(26 * 3600).into()), "{old:#}");
    assert_eq!(ask(&["--max-age", "2d"]).status.code(), Some(0), "the question counts");
    lab.configure(&[("MAX_AGE", "26")]);
    assert_eq!(ask(&[]).status.code(), Some(2));
}

#[test]
fn a_disk_that_no_setting_leaves_out_is_missed() {
    let lab = Lab::configured("status_disks");
    let disks = [DiskSpec::new("vda", MIB), DiskSpec::new("vdb", MIB).format(DiskFormat::Raw)];
    let vm = lab.paused_vm("web", &disks);
    lab.run_well(&vm);
    let (code, status) = asked(&lab, &[&vm], &[]);
    assert_eq!((code, &of(&status, &vm)["left_out"][0]["disk"]), (Some(VM), &"vdb".into()), "{status:#}");
    let table = text(&lab.vmbackup(&["--status", "--vm", vm.name()]));
    assert!(about(&table, &vm).contains("disk vdb is in no backup: raw disk"), "{table}");
    lab.configure(&[("VIRTNBD_EXCLUDE_DISKS", "vdb")]);
    assert_eq!(asked(&lab, &[&vm], &[]).0, Some(0));
    lab.configure(&[("BACKUP_RAW_DISKS", "true")]);
    assert_eq!(asked(&lab, &[&vm], &[]).0, Some(VM), "it is not in the backup yet");
    let table = text(&lab.vmbackup(&["--status", "--vm", vm.name()]));
    let why = "disk vdb is in no backup: the newest restore point does not have it: raw disk";
    assert!(about(&table, &vm).contains(why), "{table}");
}

#[test]
fn a_run_under_way_is_seen() {
    let lab = Lab::configured("status_running");
    let vm = written_vm(&lab, "web");
    lab.run_well(&vm);
    assert!(asked(&lab, &[&vm], &[]).1["running"].is_null());
    let mut held = lab.run_held_at(&vm, FailPoint::Copying);
    held.wait_held();
    let (code, status) = asked(&lab, &[&vm], &[]);
    let running = &status["running"];
    assert_eq!(
        (code, &running["kind"], running["began"].is_string()),
        (Some(0), &"targeted".into(), true),
        "{status:#}"
    );
    assert_eq!(of(&status, &vm)["at_work_pid"], running["pid"], "{status:#}");
    let table = text(&lab.vmbackup(&["--status", "--vm", vm.name()]));
    assert!(table.contains("A run is under way since ") && about(&table, &vm).contains(" now "), "{table}");
    held.release();
    assert!(held.wait().status.success());
    assert!(asked(&lab, &[&vm], &[]).1["running"].is_null());
}

#[test]
fn members_of_group_backup_may_ask_and_nobody_else() {
    let lab = Lab::configured("status_group");
    let vm = written_vm(&lab, "web");
    lab.run_well(&vm);
    // Where everybody may go and run it.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("vmbackup");
    fs::copy(env!("CARGO_BIN_EXE_vmbackup"), &program).expect("a copy of the program");
    must(Command::new("chmod").args(["-R", "a+rX"]).args([folder.path(), &lab.config_dir()]));
    for above in lab.path().ancestors().filter(|above| above.starts_with(std::env::temp_dir())) {
        let mode = fs::metadata(above).expect("a folder").permissions().mode();
        fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o011)).expect("the lab's own");
    }
    let group: u32 = must(Command::new("sh").args(["-c", "getent group backup | cut -d: -f3"]))
        .trim()
        .parse()
        .expect("a number");
    let ask = |gid: u32| {
        let mut command = Command::new(&program);
        let arguments = ["--status", "--json", "--vm", vm.name(), "--config-dir"];
        command.args(arguments).arg(lab.config_dir()).uid(65534).gid(gid).current_dir("/");
        command.output().expect("it can be run")
    };
    let before = World::of(&lab, &[&vm]);
    let output = ask(group);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let status = answer("status", &output);
    let same =
        |key: &str| assert_eq!(of(&status, &vm)[key], of(&asked(&lab, &[&vm], &[]).1, &vm)[key], "{key}");
    ["health", "chain", "last_run", "folder_bytes", "problems", "faults"].into_iter().for_each(same);
    // Whom the daemon lets look is its own business: this one may ask a polkit that is not there.
    let is_told = status["warnings"].to_string().contains("Only what is on disk is shown");
    assert!(of(&status, &vm)["defined"] == true || is_told, "{}", text(&output));
    World::of(&lab, &[&vm]).assert_is(&before);
    let refused = answer("error", &ask(65534));
    let message = refused["message"].as_str().expect("a text");
    assert!(refused["code"] == "general" && message.contains("group backup"), "{refused:#}");
}
