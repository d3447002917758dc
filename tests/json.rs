//! With `--json` standard output holds one value, whatever is asked and however it ends, and the value is as its schema says.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Output;

use lab::schema::answer;
use lab::{DiskSpec, Lab, text};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn ask(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = lab.vmbackup_command();
    command.args(arguments).arg("--json").output().expect("vmbackup can be started")
}

#[test]
fn each_mode_answers_with_one_value() {
    let lab = Lab::configured("json");
    let vm = lab.paused_vm("web", &[DiskSpec::new("vda", 2 * MIB)]);
    let off = lab.define(&lab::VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let never = lab.define(&lab::VmSpec::new("never").disk(DiskSpec::new("vda", MIB)));
    let all = [vm.name(), off.name(), never.name()].join(",");
    let overrides = lab.config_dir().join("default/vm_overrides.conf");
    fs::write(overrides, format!("VM_POLICY[\"{}\"]=\"never\"\n", never.name())).expect("a file");
    vm.write("vda", 0, MIB, 1).expect("a write");

    let shown = answer("init", &ask(&lab, &["--init"]));
    assert_eq!((&shown["done"], &shown["standing"]), (&false.into(), &"new".into()), "{shown:#}");
    let made = answer("init", &ask(&lab, &["--init", "--yes"]));
    assert_eq!((&made["done"], made["id"].is_string()), (&true.into(), true), "{made:#}");

    let plan = answer("plan", &ask(&lab, &["--run", "--dry-run", "--vm", &all]));
    assert_eq!((&plan["totals"]["vms"], &plan["totals"]["excluded"]), (&3.into(), &1.into()), "{plan:#}");
    assert_eq!(plan["session_id"], Value::Null, "a dry run is no session");

    let run = answer("session", &ask(&lab, &["--run", "--vm", &all]));
    assert_eq!(run["totals"]["backed_up"], 2, "{run:#}");
    assert_eq!((&run["session_id"], &run["log_file"]), (&run["session"]["id"], &run["session"]["log_file"]));
    assert!(run["totals"]["file_bytes"].as_u64() > Some(0) && run["ended"].as_str() >= run["began"].as_str());
    let again = answer("plan", &ask(&lab, &["--run", "--dry-run", "--vm", &all]));
    assert!(again["vms"][0]["plan"]["decision"]["Incremental"].is_object(), "{again:#}");

    let check = answer("check", &ask(&lab, &["--check", "--vm", vm.name()]));
    assert_eq!(check["totals"]["bad"], 0, "{check:#}");

    let status = answer("status", &ask(&lab, &["--status", "--vm", &all]));
    assert_eq!(
        (&status["totals"]["backed_up"], &status["totals"]["excluded"]),
        (&2.into(), &1.into()),
        "{status:#}"
    );

    let list = answer("prune-list", &ask(&lab, &["--prune", "list"]));
    assert_eq!(list["totals"]["vms"], 2, "{list:#}");
    let target = ["--prune", "all", "--vm", off.name()];
    for more in [&[][..], &["--dry-run"], &["--dry-run", "--yes"]] {
        let shown = answer("prune", &ask(&lab, &[&target, more].concat()));
        assert_eq!((&shown["done"], &shown["freed_bytes"]), (&false.into(), &Value::Null), "{shown:#}");
    }
    let pruned = answer("prune", &ask(&lab, &[&target[..], &["--yes"]].concat()));
    assert_eq!((&pruned["done"], pruned["session_id"].is_i64()), (&true.into(), true), "{pruned:#}");
    assert!(
        pruned["freed_bytes"].as_u64() > Some(0) && pruned["removals"][0]["error"].is_null(),
        "{pruned:#}"
    );

    answer("replicate", &ask(&lab, &["--replicate-only", "local"]));
    answer("replicate", &ask(&lab, &["--replicate-only", "--dry-run"]));
    answer("cancel-replication", &ask(&lab, &["--cancel-replication", "--dry-run"]));
    answer("cancel-replication", &ask(&lab, &["--cancel-replication"]));
    // What nobody is asked about in a value stands in it: the flag was for a replication, and none came.
    let run = answer("session", &ask(&lab, &["--run", "--vm", vm.name()]));
    assert!(run["warnings"].to_string().contains("The flag that asks a replication"), "{run:#}");

    let shown = answer("migrate-config", &ask(&lab, &["--migrate-config", "--dry-run"]));
    assert_eq!((&shown["dry_run"], &shown["instance"]), (&true.into(), &"default".into()));
    answer("migrate-config", &ask(&lab, &["--migrate-config"]));
}

#[test]
fn whatever_keeps_the_program_from_its_work_is_one_value_too() {
    let lab = Lab::configured("json_errors");
    let vm = lab.paused_vm("web", &[DiskSpec::new("vda", MIB)]);
    let failed = |arguments: &[&str], code: &str, words: &str| {
        let output = ask(&lab, arguments);
        let error = answer("error", &output);
        let message = error["message"].as_str().expect("a text").to_owned();
        assert!(error["code"] == code && message.contains(words), "{arguments:?}: {error:#}");
        // A person who looks at the log of it sees the same.
        assert!(String::from_utf8_lossy(&output.stderr).contains(&message), "{}", text(&output));
        error
    };
    for arguments in [&["--bogus"][..], &["--run", "--bogus"], &["--vm", "web"], &["--run", "--status"]] {
        let error = failed(arguments, "usage", "");
        assert_eq!(error["instance"], Value::Null, "it did not come to that");
    }
    assert_eq!(failed(&["--run", "extra"], "usage", "extra")["fix"], "See what there is: vmbackup --help");
    assert_eq!(failed(&["--run", "--vm"], "usage", "needs the name of a VM")["fix"], Value::Null);
    failed(&["--prune"], "usage", "needs a target");
    failed(&["--prune", "some"], "usage", "does not know the target");
    failed(&["--prune", "all"], "usage", "works on one VM");
    failed(&["--prune", "period:x", "--vm", "web"], "usage", "period");
    failed(&["--run", "--vm", "nobody"], "vm", "nobody");
    failed(&["--status", "--vm", "nobody"], "vm", "nobody");
    failed(&["--prune", "all", "--vm", "nobody", "--yes"], "vm", "nobody");
    let error = failed(&["--run", "--config-instance", "nightly"], "configuration", "nightly");
    assert_eq!(error["instance"], "nightly");

    let held = lab.run_held_at(&vm, vmbackup::engine::fail_point::FailPoint::Copying);
    let error = failed(&["--run", "--vm", vm.name()], "locked", "already running");
    assert!(error["fix"].as_str().is_some_and(|fix| fix.contains("ps -fp")), "{error:#}");
    held.release();
    held.wait();

    let local = lab.config_dir().join("default/replication_local.conf");
    fs::write(&local, "REPLICATION_ENABLED=\"yes\"\n").expect("a file");
    let error = failed(&["--replicate-only"], "general", "nothing was replicated");
    assert!(error["session_id"].is_i64() && error["log_file"].is_string(), "{error:#}");
    fs::remove_file(local).expect("ours");

    let socket = format!("qemu+unix:///system?socket={}", lab.path().join("none").display());
    lab.configure(&[("LIBVIRT_URI", &socket)]);
    let error = failed(&["--run", "--vm", vm.name()], "tool", "Is the libvirt daemon running");
    assert!(error["session_id"].is_i64() && error["fix"].is_string(), "{error:#}");
    lab.configure(&[("BACKUP_PATH", lab.path().join("not-mounted").to_str().expect("text"))]);
    for mode in ["--run", "--status", "--init", "--cancel-replication"] {
        failed(&[mode], "storage", "does not exist");
    }
    failed(&["--prune", "list"], "storage", "does not exist");

    // Where everybody may run it.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let program = folder.path().join("vmbackup");
    fs::copy(env!("CARGO_BIN_EXE_vmbackup"), &program).expect("a copy of the program");
    let mut command = std::process::Command::new(&program);
    command.args(["--run", "--json"]).uid(65534).gid(65534).current_dir("/");
    let error = answer("error", &command.output().expect("it can be run"));
    assert_eq!((&error["code"], &error["fix"]), (&"general".into(), &"sudo vmbackup …".into()), "{error:#}");
}
