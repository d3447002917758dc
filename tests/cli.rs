//! What the program says and leaves when it is asked for something that cannot be, or for a plan only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use lab::{DiskSpec, Lab, Vm, VmSpec, World, extract, must, text, virsh};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

const GENERAL: i32 = 1;
const CONFIGURATION: i32 = 2;
const STORAGE: i32 = 4;
const VM: i32 = 5;
const TOOL: i32 = 6;
const USAGE: i32 = 7;

/// Runs the program; it has to refuse with this exit code, these words on the error output, and change nothing.
#[track_caller]
fn refused(lab: &Lab, vms: &[&Vm], arguments: &[&str], code: i32, words: &[&str]) -> Output {
    let before = World::of(lab, vms).without_notes();
    let output = lab.vmbackup(arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(World::of(lab, vms).without_notes() == before, "{arguments:?} changed something: {said}");
    output
}

fn two_vms(lab: &Lab) -> [Vm; 2] {
    ["one", "two"].map(|name| {
        let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 2 * MIB)]);
        vm.write("vda", 0, MIB, 1).expect("a write");
        vm
    })
}

#[test]
fn a_vm_that_is_not_there() {
    let lab = Lab::configured("unknown");
    let [one, two] = two_vms(&lab);
    let both = format!("{},no-such-vm", one.name());
    for asked in ["no-such-vm", &both] {
        let words = ["Error: ", "no-such-vm", "does not exist", one.name()];
        refused(&lab, &[&one, &two], &["--run", "--vm", asked], VM, &words);
    }
    for asked in ["", ",", " "] {
        let output = lab.vmbackup(&["--run", "--vm", asked]);
        assert!(
            !output.status.success(),
            "--vm {asked:?} names no VM, so it cannot mean all: {}",
            text(&output)
        );
    }
    assert!(one.checkpoints().is_empty(), "no checkpoint was made");
}

#[test]
fn a_backup_path_that_cannot_be_used() {
    let lab = Lab::configured("target");
    let [one, two] = two_vms(&lab);
    let vms = [&one, &two];
    let run = ["--run", "--vm", one.name()];
    let path = |path: &Path| path.to_str().expect("the lab's path is text").to_owned();

    let missing = lab.path().join("not-mounted/backups");
    lab.configure(&[("BACKUP_PATH", &path(&missing))]);
    refused(&lab, &vms, &run, STORAGE, &["Error: ", &path(&missing), "does not exist", "mount it"]);
    assert!(!lab.path().join("not-mounted").exists(), "it is never created");
    refused(&lab, &vms, &["--run", "--dry-run"], STORAGE, &[&path(&missing), "does not exist"]);
    assert!(!lab.path().join("not-mounted").exists(), "it is never created");

    let file = lab.path().join("a-file");
    fs::write(&file, "x").expect("a file");
    lab.configure(&[("BACKUP_PATH", &path(&file))]);
    refused(&lab, &vms, &run, STORAGE, &["Error: ", &path(&file), "not a directory"]);

    let mounted = lab.small_file_system("read-only", 4);
    must(Command::new("mount").args(["-o", "remount,ro"]).arg(mounted.path()));
    lab.configure(&[("BACKUP_PATH", &path(mounted.path()))]);
    refused(
        &lab,
        &vms,
        &run,
        STORAGE,
        &["Error: ", "BACKUP_PATH", &path(mounted.path()), "Read-only file system"],
    );
    drop(mounted);

    lab.configure(&[("VIRTNBD_SCRATCH_DIR", &path(&missing))]);
    refused(&lab, &vms, &run, STORAGE, &["Error: ", "VIRTNBD_SCRATCH_DIR", &path(&missing)]);
    assert!(!lab.path().join("not-mounted").exists(), "it is never created");
}

#[test]
fn no_libvirt() {
    let lab = Lab::configured("no_libvirt");
    let [one, two] = two_vms(&lab);
    let socket = lab.path().join("no-such-socket");
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    lab.configure(&[("LIBVIRT_URI", &uri)]);
    let words = ["Error: ", "no-such-socket", "Is the libvirt daemon running"];
    refused(&lab, &[&one, &two], &["--run"], TOOL, &words);
    refused(&lab, &[&one, &two], &["--run", "--dry-run", "--json"], TOOL, &words);
}

/// What is a path there is another file here.
#[test]
fn a_daemon_of_another_host_is_refused() {
    let lab = Lab::configured("other_host");
    let [one, two] = two_vms(&lab);
    for uri in [
        "qemu+ssh://root@localhost/system",
        "qemu+tcp://127.0.0.1/system",
        "qemu:///system?name=qemu://h/system",
    ] {
        lab.configure(&[("LIBVIRT_URI", uri)]);
        let words = [uri, "the daemon of this host: qemu:///system", "install vmbackup there"];
        for arguments in [&["--run"][..], &["--run", "--dry-run"], &["--status"], &["--check"]] {
            refused(&lab, &[&one, &two], arguments, CONFIGURATION, &words);
        }
    }
}

#[test]
fn checkpoints_of_somebody_else() {
    let lab = Lab::configured("foreign");
    let [one, two] = two_vms(&lab);
    let make = |vm: &Vm, name: &str| virsh(&["checkpoint-create-as", vm.name(), name]);
    let delete = |vm: &Vm, name: &str| virsh(&["checkpoint-delete", vm.name(), name]);
    let check = |name: &str| {
        let words = [name, "did not make", "left alone", "virsh checkpoint-delete"];
        refused(&lab, &[&one, &two], &["--run", "--vm", one.name()], VM, &words);
        let planned = lab.vmbackup(&["--run", "--dry-run", "--vm", one.name()]);
        let said = text(&planned);
        assert!(said.contains("cannot") && said.contains(name), "{said}");
    };
    // No chain yet; ours would have the same name.
    for name in ["mine", "virtnbdbackup.0"] {
        make(&one, name);
        check(name);
        delete(&one, name);
    }
    lab.run_well(&one);
    // A chain; the next of ours would have the same name.
    for name in ["mine", "virtnbdbackup.1"] {
        make(&one, name);
        check(name);
        delete(&one, name);
    }
    // In the place of ours, and looking like it.
    let ours = virsh(&["checkpoint-dumpxml", one.name(), "virtnbdbackup.0"]);
    delete(&one, "virtnbdbackup.0");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    make(&one, "virtnbdbackup.0");
    assert_ne!(ours, virsh(&["checkpoint-dumpxml", one.name(), "virtnbdbackup.0"]));
    check("virtnbdbackup.0");
    // The other VM is backed up all the same, and the exit code still tells.
    make(&one, "mine");
    let both = format!("{},{}", one.name(), two.name());
    let output = lab.vmbackup(&["--run", "--json", "--vm", &both]);
    assert_eq!(output.status.code(), Some(VM), "{}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let status = |n: usize| json["vms"][n]["status"].as_str().expect("a status").to_owned();
    assert_eq!([status(0), status(1)], ["failed", "ok"], "{json:#}");
    assert!(json["vms"][0]["error"].as_str().expect("an error").contains("mine"), "{json:#}");
    let raw = extract(&lab, &lab.chain_dir(&two), "vda", None);
    assert_eq!(two.shadow("vda").equals(&raw), Ok(()));
}

#[test]
fn a_configuration_that_cannot_be_used() {
    let lab = Lab::new("config");
    let file = lab.instance_conf(&[]);
    lab.scratch_dir();
    let [one, two] = two_vms(&lab);
    let vms = [&one, &two];
    let run = ["--run", "--vm", one.name()];
    let good = fs::read_to_string(&file).expect("the configuration");
    let name = file.to_str().expect("the lab's path is text");
    let lines = good.lines().count();
    for (added, words) in [
        ("\nVIRTNBD_COMPRESS_LEVEL=\"99\"\n", vec!["VIRTNBD_COMPRESS_LEVEL", "99"]),
        ("\nPARALLEL_VMS=\"many\"\n", vec!["PARALLEL_VMS", "many"]),
        ("\nif true; then X=1; fi\n", vec!["if"]),
        ("\nLOG_LEVEL=\"INFO\n", vec![]),
        ("\nLIBVIRT_URI=\"$(virsh uri)\"\n", vec![]),
    ] {
        fs::write(&file, format!("{good}{added}")).expect("the configuration can be written");
        let at = format!("{name}:{}", lines + 2);
        let words: Vec<&str> = ["Error: ", at.as_str()].into_iter().chain(words).collect();
        refused(&lab, &vms, &run, CONFIGURATION, &words);
        refused(&lab, &vms, &["--run", "--dry-run"], CONFIGURATION, &words);
    }
    fs::write(&file, &good).expect("the configuration can be written");

    // The same key in both files with different values.
    let toml = file.with_file_name("vmbackup.toml");
    fs::write(&file, format!("{good}PARALLEL_VMS=\"3\"\n")).expect("the configuration can be written");
    fs::write(&toml, "PARALLEL_VMS = 4\n").expect("the configuration can be written");
    refused(&lab, &vms, &run, CONFIGURATION, &["Error: ", "PARALLEL_VMS", "vmbackup.conf", "vmbackup.toml"]);
    fs::write(&toml, "this is not toml\n").expect("the configuration can be written");
    refused(&lab, &vms, &run, CONFIGURATION, &["Error: ", &format!("{}:1", toml.display())]);
    fs::remove_file(&toml).expect("the configuration is ours");

    // No such instance, no such folder, no file; a file that cannot be read says why.
    let asked = ["--run", "--config-instance", "nightly"];
    refused(&lab, &vms, &asked, CONFIGURATION, &["Error: ", "nightly", "default"]);
    refused(&lab, &vms, &["--run", "--config-instance", "../default"], CONFIGURATION, &["../default"]);
    fs::remove_file(&file).expect("the configuration is ours");
    refused(&lab, &vms, &run, CONFIGURATION, &["Error: ", "neither vmbackup.conf nor vmbackup.toml"]);
    fs::create_dir(&file).expect("a folder in its place");
    refused(&lab, &vms, &run, CONFIGURATION, &["Error: ", name, "directory"]);
}

/// Which output the program used, and what it said there.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Out(String),
    Err(String),
}

#[track_caller]
fn said(output: &Output) -> Said {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    match (out.as_str(), err.as_str()) {
        (_, "") => Said::Out(out),
        ("", _) => Said::Err(err),
        _ => panic!("both outputs: {}", text(output)),
    }
}

#[test]
fn every_row_of_the_table_of_arguments() {
    let lab = Lab::configured("arguments");
    let together = |one: &str, other: &str| format!("{one} and {other} cannot be used together");
    let targets = "Targets: list, archives, archives:PERIOD, chain:NAME, period:ID, all";
    let of_one_vm = |target: &str| {
        format!("--prune {target} works on one VM: name it\nFor example: vmbackup --prune {target} --vm web")
    };
    let on_stderr = [
        (vec!["--bogus", "--help"], "Unknown option: --bogus\nSee what there is: vmbackup --help".to_owned()),
        (vec!["--run", "extra"], "Unknown option: extra\nSee what there is: vmbackup --help".to_owned()),
        (
            vec!["--run", "--vm", "-x"],
            "--vm needs the name of a VM, or several with commas: --vm web,db".to_owned(),
        ),
        (
            vec!["--replicate-only", "far"],
            "--replicate-only takes local, cloud or both, not 'far'".to_owned(),
        ),
        (vec!["--prune", "all", "--replicate-only"], together("--prune", "--replicate-only")),
        (vec!["--replicate-only", "--vm", "a"], together("--replicate-only", "--vm")),
        (
            vec!["--prune", "all", "--vm", "a,b"],
            "--prune works on one VM at a time: --vm takes a single name here".to_owned(),
        ),
        (vec!["--cancel-replication", "--prune"], together("--cancel-replication", "--prune")),
        (
            vec!["--cancel-replication", "--replicate-only"],
            together("--cancel-replication", "--replicate-only"),
        ),
        (vec!["--cancel-replication", "--vm", "a"], together("--cancel-replication", "--vm")),
        (vec!["--run", "--prune", "list"], together("--run", "--prune")),
        (vec!["--run", "--replicate-only"], together("--run", "--replicate-only")),
        (vec!["--run", "--cancel-replication"], together("--run", "--cancel-replication")),
        (
            vec!["--vm", "web"],
            "--vm needs --run, --prune, --status or --check\nFor example: vmbackup --run --vm 'web'"
                .to_owned(),
        ),
        (vec!["--run", "--settings"], "--settings needs --check".to_owned()),
    ];
    let on_stdout = [
        (vec!["--prune"], format!("--prune needs a target\n{targets}")),
        (vec!["--prune", "-y"], format!("--prune needs a target\n{targets}")),
        (vec!["--prune", "some"], format!("--prune does not know the target 'some'\n{targets}")),
        (vec!["--prune", "all"], of_one_vm("all")),
        (vec!["--prune", "period:202611"], of_one_vm("period:202611")),
        (vec!["--prune", "archives:202611"], of_one_vm("archives:202611")),
        (vec!["--prune", "chain:x", "--yes"], of_one_vm("chain:x")),
    ];
    for (arguments, want) in on_stderr {
        let output = refused(&lab, &[], &arguments, USAGE, &[]);
        assert_eq!(said(&output), Said::Err(format!("Error: {want}\n")), "{arguments:?}");
    }
    for (arguments, want) in on_stdout {
        let output = refused(&lab, &[], &arguments, USAGE, &[]);
        assert_eq!(said(&output), Said::Out(format!("Error: {want}\n")), "{arguments:?}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let of_file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        fs::read_to_string(&path).expect("a text to compare with").replace("VERSION", version)
    };
    for (arguments, want) in [
        (vec![], "usage.txt"),
        (vec!["--dry-run"], "usage.txt"),
        (vec!["-y"], "usage.txt"),
        (vec!["--json"], "usage.txt"),
        (vec!["--help", "--bogus"], "help.txt"),
        (vec!["--run", "-h"], "help.txt"),
        (vec!["--version"], "version.txt"),
    ] {
        let output = refused(&lab, &[], &arguments, 0, &[]);
        assert_eq!(said(&output), Said::Out(of_file(want)), "{arguments:?}");
    }
}

#[test]
fn only_root_may_do_more_than_ask_for_help() {
    let _lab = Lab::configured("not_root");
    // Where everybody may run it.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let program = folder.path().join("vmbackup");
    fs::copy(env!("CARGO_BIN_EXE_vmbackup"), &program).expect("a copy of the program");
    let run = |arguments: &[&str]| {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&program);
        command.args(arguments).uid(65534).gid(65534).current_dir("/").output().expect("it can be run")
    };
    for arguments in [&["--help"][..], &["--version"], &[]] {
        assert_eq!(run(arguments).status.code(), Some(0), "{arguments:?}");
    }
    assert_eq!(run(&["--bogus"]).status.code(), Some(USAGE));
    for mode in ["--run", "--prune", "--replicate-only", "--cancel-replication", "--init", "--check"] {
        let output = run(&[mode]);
        assert_eq!(output.status.code(), Some(GENERAL), "{mode}");
        let Said::Err(text) = said(&output) else { panic!("{mode}: {output:?}") };
        assert!(text.starts_with("Error: ") && text.contains("root") && text.contains("sudo"), "{text}");
    }
}

#[test]
fn a_replication_is_cancelled_by_a_flag_and_has_no_destination_yet() {
    let lab = Lab::new("replication");
    let file = lab.instance_conf(&[]);
    let flag = lab.backup_path().join("_state/cancel-replication");
    let output = lab.vmbackup(&["--cancel-replication", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        said(&output),
        Said::Out(format!(
            "[DRY-RUN] Would ask a replication to end, with the flag file\n  {}\n",
            flag.display()
        ))
    );
    assert!(!flag.exists());
    let output = lab.vmbackup(&["--cancel-replication"]);
    let want = format!(
        "Replication is asked to end.\n  Flag file: {}\nA replication that is under way ends within about 30 seconds.\n",
        flag.display()
    );
    assert_eq!((output.status.code(), said(&output)), (Some(0), Said::Out(want)));
    let line = fs::read_to_string(&flag).expect("a flag");
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    assert!(fields.len() == 4 && fields[2].starts_with("PID=") && fields[3] == "user=root", "{line}");

    let output = lab.vmbackup(&["--replicate-only", "local", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(flag.exists(), "a dry run takes no flag");
    let output = lab.vmbackup(&["--replicate-only", "local"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("No replication destination is configured"), "{}", text(&output));
    assert!(!flag.exists(), "the flag is for one replication");
    let log = fs::read_to_string(lab.backup_path().join("_state/logs/vmbackup.log")).expect("a log");
    for words in [
        "===== REPLICATE-ONLY MODE START (scope=local) =====",
        "===== REPLICATE-ONLY MODE END (exit=0) =====",
        "║  Mode: local  (no backups, retention, or FSTRIM)",
    ] {
        assert!(log.contains(words), "no {words:?} in {log}");
    }
    // What is configured and cannot be served is no success, and a backup says it too.
    let local = file.with_file_name("replication_local.conf");
    fs::write(&local, "REPLICATION_ENABLED=\"no\"\nDEST_1_NAME=\"nas\"\n").expect("a file");
    assert_eq!(lab.vmbackup(&["--replicate-only"]).status.code(), Some(0));
    fs::write(&local, "REPLICATION_ENABLED=\"yes\"\n").expect("a file");
    let said = format!("{}:1:21: REPLICATION_ENABLED is yes, but this version does not", local.display());
    let output = lab.vmbackup(&["--replicate-only"]);
    assert_eq!(output.status.code(), Some(GENERAL), "{}", text(&output));
    assert!(text(&output).contains(&format!("Error: {said}")), "{}", text(&output));
    let log = fs::read_to_string(lab.backup_path().join("_state/logs/vmbackup.log")).expect("a log");
    assert!(
        log.contains("[ERROR]") && log.trim_end().ends_with(&"=".repeat(80)),
        "nothing follows its end: {log}"
    );
    assert_eq!(lab.vmbackup(&["--replicate-only", "cloud"]).status.code(), Some(0));
    let output = lab.vmbackup(&["--run", "--dry-run", "--vm", lab.paused_vm("web", &[]).name()]);
    assert!(text(&output).contains(&format!("[WARN] [cli::opened] [-] {said}")), "{}", text(&output));
    assert!(text(&lab.vmbackup(&["--check"])).contains(&format!("look  configuration: {said}")));
    // Also where nobody sees warnings.
    lab.configure(&[("LOG_LEVEL", "ERROR")]);
    fs::write(file.with_file_name("email.conf"), "EMAIL_ENABLED=\"yes\"\n").expect("a file");
    let stdout = |arguments: &[&str]| String::from_utf8(lab.vmbackup(arguments).stdout).expect("text");
    let status = stdout(&["--status"]);
    assert!(status.contains(&format!("\nNot done: {said}")), "{status}");
    assert!(status.contains("this version sends no mail: watch the exit code"), "{status}");
    let json: Value = serde_json::from_str(&stdout(&["--status", "--json"])).expect("JSON");
    assert_eq!(json["not_served"].as_array().map(Vec::len), Some(2), "{json:#}");
    let vm = lab.paused_vm("mailed", &[DiskSpec::new("vda", 1 << 20)]);
    let run = stdout(&["--run", "--vm", vm.name()]);
    assert!(run.contains("\nConfigured, but not done by this version: local replication, mail\n"), "{run}");
    let json: Value = serde_json::from_str(&stdout(&["--run", "--json", "--vm", vm.name()])).expect("JSON");
    assert_eq!(json["session"]["mail"], "not_served", "{json:#}");
}

/// What a dry run plans for each VM.
#[track_caller]
fn plans(lab: &Lab, vms: &[&Vm]) -> BTreeMap<String, Value> {
    let names = vms.iter().map(|vm| vm.name()).collect::<Vec<_>>().join(",");
    let before = World::of(lab, vms).without_log();
    let for_people = lab.vmbackup(&["--run", "--dry-run", "--vm", &names]);
    assert!(text(&for_people).contains("Nothing is changed"), "{}", text(&for_people));
    World::of(lab, vms).without_log().assert_is(&before);
    let json = lab.plan(None, vms);
    let of = |vm: &Value| (vm["vm"].as_str().expect("a name").to_owned(), vm["plan"].clone());
    json["vms"].as_array().expect("a list").iter().map(of).collect()
}

/// Runs, and each VM gets exactly what the dry run had said.
#[track_caller]
fn runs_as_planned(lab: &Lab, vms: &[&Vm]) -> Vec<String> {
    let planned = plans(lab, vms);
    let names = vms.iter().map(|vm| vm.name()).collect::<Vec<_>>().join(",");
    let output = lab.vmbackup(&["--run", "--json", "--vm", &names]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let json: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let mut decisions = vec![];
    for vm in json["vms"].as_array().expect("a list") {
        let name = vm["vm"].as_str().expect("a name");
        assert_eq!(vm["report"]["plan"], planned[name], "{name}");
        let decision = &vm["report"]["plan"]["decision"];
        let key = decision.as_object().and_then(|map| map.keys().next()).map(String::as_str);
        decisions.push(key.or(decision.as_str()).expect("a decision").to_owned());
    }
    decisions
}

#[test]
fn a_dry_run_says_what_a_run_does_and_changes_nothing() {
    let lab = Lab::configured("dry_run");
    let [one, two] = two_vms(&lab);
    let off = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let vms = [&one, &two, &off];
    assert_eq!(runs_as_planned(&lab, &vms), ["Full", "Full", "Copy"]);
    one.write("vda", 0, 512, 2).expect("a write");
    assert_eq!(runs_as_planned(&lab, &vms), ["Incremental", "Incremental", "Skip"]);
    // A new chain with an archive, one without its checkpoint, and one after a copy.
    one.resize_disk("vda", 3 * MIB);
    virsh(&["checkpoint-delete", two.name(), "virtnbdbackup.1"]);
    off.start_paused();
    assert_eq!(runs_as_planned(&lab, &vms), ["Full", "Full", "Full"]);
    two.destroy();
    assert_eq!(runs_as_planned(&lab, &vms), ["Incremental", "Copy", "Incremental"]);
    for vm in vms {
        let raw = extract(&lab, &lab.chain_dir(vm), "vda", None);
        assert_eq!(vm.shadow("vda").equals(&raw), Ok(()), "{}", vm.name());
    }
}

#[test]
fn a_dry_run_names_the_leftovers_of_a_killed_run_and_leaves_them() {
    let lab = Lab::configured("dry_leftovers");
    let vm = lab.paused_vm("killed", &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    lab.run_well(&vm);
    vm.write("vda", MIB, 512, 2).expect("a write");
    // A host that loses its power leaves the journal of a run, and what that had written.
    let state = lab.backup_path().join("_state/journal");
    let held = lab.run_held_at(&vm, FailPoint::Copying);
    let files = fs::read_dir(&state).expect("a journal folder").flatten().map(|entry| entry.path());
    let mut files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let file = files.next().expect("a run that is under way has a journal");
    let mut journal: Value = serde_json::from_slice(&fs::read(&file).expect("the journal")).expect("JSON");
    held.release();
    assert!(held.wait().status.success());
    journal["checkpoint"] = "virtnbdbackup.2".into();
    let partial = lab.chain_dir(&vm).join("vda.inc.virtnbdbackup.2.data.partial");
    journal["stage"]["Copying"]["partial"] =
        vec![partial.file_name().and_then(|name| name.to_str()).expect("text")].into();
    fs::write(&file, journal.to_string()).expect("the journal of the next run");
    fs::write(&partial, "unfinished").expect("its unfinished stream");
    let before = World::of(&lab, &[&vm]).without_log();
    let output = lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
    assert!(text(&output).contains("interrupted run"), "{}", text(&output));
    assert!(World::of(&lab, &[&vm]).without_log() == before, "a dry run changed something");
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "incremental 2", "{}", ended.log);
    assert!(ended.log.contains("ended in the middle") && !partial.exists(), "{}", ended.log);
    let raw = extract(&lab, &lab.chain_dir(&vm), "vda", None);
    assert_eq!(vm.shadow("vda").equals(&raw), Ok(()));
}

#[test]
fn a_status_tells_how_each_vm_stands() {
    let lab = Lab::configured("status");
    let [one, two] = two_vms(&lab);
    lab.run_well(&one);
    let before = World::of(&lab, &[&one, &two]);
    let both = format!("{},{}", one.name(), two.name());
    let output = lab.vmbackup(&["--status", "--json", "--vm", &both]);
    assert_eq!(output.status.code(), Some(VM), "one of them has no backup: {}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |n: usize| &json["vms"][n];
    assert_eq!(
        [&of(0)["vm"], &of(0)["health"], &of(0)["policy"]],
        [one.name(), "good", "monthly"],
        "{json:#}"
    );
    assert_eq!((&of(0)["chain"]["points"], &of(0)["defined"]), (&1.into(), &true.into()), "{json:#}");
    assert!(of(0)["last_success"].is_string() && of(0)["next_period"].is_string(), "{json:#}");
    assert_eq!([&of(1)["vm"], &of(1)["health"]], [two.name(), "no_backup"], "{json:#}");
    let output = lab.vmbackup(&["--status", "--vm", one.name()]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("VM ") && lines[0].ends_with(" HEALTH"), "{table}");
    assert!(lines[1].starts_with(one.name()) && lines[1].ends_with(" good"), "{table}");
    assert!(World::of(&lab, &[&one, &two]) == before, "a question changed something");
    refused(&lab, &[&one], &["--status", "--vm", "nobody"], VM, &["Error: VM nobody"]);

    // Without the database and the daemon the disk still tells.
    let uri = format!("qemu+unix:///system?socket={}", lab.path().join("no-socket").display());
    lab.configure(&[("LIBVIRT_URI", &uri)]);
    fs::remove_file(lab.backup_path().join("_state/vmbackup.db")).expect("a database");
    let output = lab.vmbackup(&["--status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["vms"][0]["vm"], &json["vms"][0]["defined"]), (&one.name().into(), &Value::Null));
}

#[test]
fn a_configuration_becomes_toml_and_says_the_same() {
    let lab = Lab::new("migrate");
    let file = lab.instance_conf(&[("PARALLEL_VMS", "3"), ("LOG_LEVEL", "ERROR")]);
    let settings = || {
        let output = lab.vmbackup(&["--check", "--json"]);
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rows = json["settings"].as_array().expect("a list").clone();
        rows.iter().map(|row| format!("{}={}", row["key"], row["value"])).collect::<Vec<_>>()
    };
    let before = settings();
    let toml = file.with_file_name("vmbackup.toml");
    let output = lab.vmbackup(&["--migrate-config", "--dry-run"]);
    assert!(text(&output).contains("\nparallel_vms = 3\n") && !toml.exists(), "{}", text(&output));
    let output = lab.vmbackup(&["--migrate-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).starts_with(&format!("Written: {}\nKept: ", toml.display())), "{}", text(&output));
    assert_eq!(settings(), before);
    let line = format!("BACKUP_PATH=\"{}/\"", lab.backup_path().display());
    assert!(fs::read_to_string(&file).expect("a file").lines().any(|found| found == line));
    refused(&lab, &[], &["--migrate-config"], CONFIGURATION, &["Error: ", "vmbackup.toml is there already"]);
}
