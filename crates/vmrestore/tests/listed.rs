//! Listings, as scripts parse them and as JSON.

use std::path::Path;
use std::process::Command;

use crate::sample::{Sample, command, err, out};
use serde_json::Value;

/// What `du -sh` says of a folder.
fn du(dir: &Path) -> String {
    let done = Command::new("du").arg("-sh").arg(dir).output().expect("du");
    String::from_utf8_lossy(&done.stdout).split('\t').next().expect("a size").to_owned()
}

#[test]
fn vms_are_listed_as_by_the_bash_program() {
    let sample = Sample::unpack();
    let rule = "═".repeat(62);
    let vm = |dir: &Path, lines: &str| {
        let name = dir.file_name().expect("a name").to_string_lossy();
        format!("\n  {name:<53} {:>6}\n{lines}", du(dir))
    };
    let bash = sample.bash();
    let gold = vm(&bash.join("gold1"), "    incremental · 4 points [vda, vdb]\n    Periods: 202611\n");
    let plain = sample.plain();
    let chain = vm(&plain.join("chain"), "    incremental · 3 points\n");
    let copy = vm(&plain.join("copy"), "    copy · 1 point [vda, vdb]\n");
    for (root, vms) in [(&bash, gold), (&plain, chain + &copy)] {
        let listed = sample.vmrestore(root, &["--list"]);
        assert_eq!((listed.status.code(), err(&listed)), (Some(0), String::new()));
        assert_eq!(out(&listed), format!("\nAvailable VMs in: {}\n{rule}\n{vms}\n{rule}\n", root.display()));
    }
}

#[test]
fn vms_are_listed_as_json() {
    let sample = Sample::unpack();
    let listed =
        lab::schema::answer_of("vmrestore", "list", &sample.vmrestore(&sample.bash(), &["--list", "--json"]));
    let vm = &listed["vms"][0];
    assert_eq!((&vm["vm"], &vm["points"], &vm["kind"]), (&"gold1".into(), &4.into(), &"incremental".into()));
    assert_eq!(vm["disks"], Value::from(vec!["vda", "vdb"]), "{listed:#}");
}

#[test]
fn a_backup_path_that_is_not_there_or_holds_nothing_is_said() {
    let sample = Sample::unpack();
    let empty = tempfile::tempdir().expect("a folder");
    let missing = empty.path().join("not-mounted");
    for (root, code, word) in [(empty.path(), 1, "general"), (&missing, 4, "storage")] {
        let said = sample.vmrestore(root, &["--list"]);
        assert_eq!(said.status.code(), Some(code), "{}", err(&said));
        assert!(err(&said).contains("--backup-path"), "{}", err(&said));
        let error =
            lab::schema::answer_of("vmrestore", "error", &sample.vmrestore(root, &["--list", "--json"]));
        assert_eq!(error["code"], word, "{error:#}");
    }
    let unconfigured = command().arg("--list").output().expect("it runs");
    assert_eq!(unconfigured.status.code(), Some(2), "{}", err(&unconfigured));
    assert!(err(&unconfigured).contains("/nonexistent") && err(&unconfigured).contains("--backup-path"));
}

#[test]
fn the_configuration_names_the_backup_path() {
    let sample = Sample::unpack();
    let dir = tempfile::tempdir().expect("a folder");
    for (instance, root) in [("default", sample.bash()), ("plain", sample.plain())] {
        let folder = dir.path().join(instance);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("vmbackup.conf"), format!("BACKUP_PATH=\"{}/\"\n", root.display()))
            .expect("a file");
    }
    let listed = |more: &[&str], variable: &str| {
        let mut command = command();
        command
            .arg("--list")
            .args(more)
            .env("VMBACKUP_CONFIG_DIR", dir.path())
            .env("VMBACKUP_INSTANCE", variable);
        out(&command.output().expect("it runs"))
    };
    assert!(listed(&[], "").contains("gold1"));
    assert!(listed(&[], "plain").contains("copy"));
    assert!(listed(&["--config-instance", "default"], "plain").contains("gold1"));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_code_of_usage() {
    let cases = [
        (vec!["--bogus"], "Unknown option: --bogus\nSee what there is: vmrestore --help"),
        (vec!["--list", "web"], "Unknown option: web\nSee what there is: vmrestore --help"),
        (vec!["--json"], "No mode is named\nSee what there is: vmrestore --help"),
        (vec!["--list", "--backup-path"], "--backup-path needs <DIR>"),
        (vec!["--list", "--config-instance", ""], "--config-instance needs <NAME>"),
    ];
    for (arguments, want) in cases {
        let said = command().args(&arguments).output().expect("it runs");
        assert_eq!(err(&said), format!("Error: {want}\n"), "{arguments:?}");
        assert_eq!(said.status.code(), Some(7), "{arguments:?}");
    }
    for arguments in [&[][..], &["--help"], &["-h", "--bogus"]] {
        let said = command().args(arguments).output().expect("it runs");
        assert_eq!((said.status.code(), err(&said)), (Some(0), String::new()), "{arguments:?}");
        let want = include_str!("data/help.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
        assert_eq!(out(&said), want, "{arguments:?}");
    }
    for arguments in ["--version", "-V"] {
        let said = command().arg(arguments).output().expect("it runs");
        assert!(out(&said).starts_with(&format!("vmrestore {}\n", env!("CARGO_PKG_VERSION"))));
    }
}
