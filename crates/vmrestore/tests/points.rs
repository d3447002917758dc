//! The restore points of a VM, as scripts parse them and as JSON.

use std::fs;
use std::path::Path;

use lab::schema::answer_of;

use crate::sample::{Sample, err, out};

const HEAD: &str = "  Restore Point   Date                 Type            Disk(s)";

fn table(rows: &[&str]) -> String {
    let rule = format!("  {}\n", "─".repeat(70));
    let lines: String = rows.iter().map(|row| format!("  {row}\n")).collect();
    format!("{HEAD}\n{rule}{lines}{rule}  Total: {}\n\n", rows.len())
}

fn head(label: &str, dir: &Path, kind: &str, disks: &str) -> String {
    format!("\n  ── {label} ──\n  Directory: {}\n  Type: {kind}\n  Disks: {disks}\n\n", dir.display())
}

const GOLD: [&str; 4] = [
    "0                 2026-11-22 20:02:27  FULL (base)     vda, vdb",
    "1                 2026-11-22 20:02:30  Incremental     vda, vdb",
    "2                 2026-11-22 20:02:34  Incremental     vda, vdb",
    "3                 2026-11-22 20:02:37  Incremental     vda, vdb",
];

#[test]
fn points_are_listed_as_by_the_bash_program() {
    let sample = Sample::unpack();
    let (bash, plain) = (sample.bash(), sample.plain());
    let gold = head("202611", &bash.join("gold1/202611"), "incremental", "vda, vdb") + &table(&GOLD);
    let chain = head("(accumulate)", &plain.join("chain"), "incremental", "vda, vdb")
        + &table(&[
            "0                 2026-11-22 20:03:05  FULL (base)     vda, vdb",
            "1                 2026-11-22 20:03:07  Incremental     vda, vdb",
            "diff.1795377788   2026-11-22 20:03:08  Differential    vda, vdb",
        ]);
    let copy = head("(accumulate)", &plain.join("copy"), "copy", "vda, vdb")
        + &table(&["0                 2026-11-22 20:03:11  COPY (offline)  vda, vdb"]);
    for (root, vm, want) in [(&bash, "gold1", gold), (&plain, "chain", chain), (&plain, "copy", copy)] {
        for arguments in [&["--list-restore-points", vm][..], &["--list-restore-points", "--vm", vm]] {
            let listed = sample.vmrestore(root, arguments);
            assert_eq!((listed.status.code(), err(&listed)), (Some(0), String::new()));
            assert_eq!(out(&listed), format!("\nRestore Points: {vm}\n{want}"), "{arguments:?}");
        }
        // A path names the backup path too.
        let path = root.join(vm).display().to_string();
        let listed =
            crate::sample::command().args(["--list-restore-points", &path]).output().expect("it runs");
        assert_eq!(out(&listed), format!("\nRestore Points: {vm}\n{want}"));
    }
}

#[test]
fn archived_chains_stand_below_their_period_and_can_be_named() {
    let sample = Sample::unpack();
    let vm = sample.bash().join("gold1");
    let archives = vm.join("202611/.archives");
    fs::create_dir(&archives).expect("a folder");
    copy(&sample.plain().join("copy"), &archives.join("chain-2026-11-01"));
    fs::rename(vm.join("202611"), vm.join("202610")).expect("ours");
    copy(&sample.plain().join("chain"), &vm.join("202611"));
    let listed = out(&sample.vmrestore(&sample.bash(), &["--list-restore-points", "gold1"]));
    let lines: Vec<&str> = listed.lines().filter(|line| !line.is_empty()).collect();
    let at = |start: &str| {
        lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {listed}"))
    };
    assert!(
        at("  ── 202611 ──") < at("  ── 202610 ──") && at("  ── 202610 ──") < at("  Archived Chains:"),
        "{listed}"
    );
    let archive = lines[at("    chain-2026-11-01 ")];
    assert!(archive.ends_with("  copy  [vda, vdb]"), "{archive}");
    let period = |id: &str| {
        out(&sample.vmrestore(&sample.bash(), &["--list-restore-points", "gold1", "--period", id]))
    };
    assert!(!period("202611").contains("Archived Chains") && period("202610").contains("Archived Chains"));
    let chain = archives_of(&vm).join("chain-2026-11-01").display().to_string();
    let alone = crate::sample::command().args(["--list-restore-points", &chain]).output().expect("it runs");
    assert!(
        out(&alone).contains("── (archive) ──") && out(&alone).contains("COPY (offline)"),
        "{}",
        out(&alone)
    );

    let listed = answer_of(
        "vmrestore",
        "restore-points",
        &sample.vmrestore(&sample.bash(), &["--list-restore-points", "gold1", "--json"]),
    );
    let told: Vec<_> = listed["sets"]
        .as_array()
        .expect("sets")
        .iter()
        .map(|set| {
            (set["period"].as_str(), set["archived"].as_bool(), set["points"].as_array().map(Vec::len))
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some("202611"), Some(false), Some(3)),
            (Some("202610"), Some(false), Some(4)),
            (Some("202610"), Some(true), Some(1))
        ]
    );
}

fn archives_of(vm: &Path) -> std::path::PathBuf {
    vm.join("202610/.archives")
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(done.success());
}

#[test]
fn what_is_not_there_is_said_with_what_there_is() {
    let sample = Sample::unpack();
    let listed = |arguments: &[&str]| {
        let said = sample.vmrestore(&sample.bash(), arguments);
        (said.status.code(), err(&said))
    };
    let (code, said) = listed(&["--list-restore-points", "nobody"]);
    assert!(code == Some(5) && said.contains("no backups of VM nobody. There is: gold1"), "{said}");
    let (code, said) = listed(&["--list-restore-points", "gold1", "--period", "202609"]);
    assert!(code == Some(5) && said.contains("no period 202609. There is: 202611"), "{said}");
    let (code, said) = listed(&["--list-restore-points", "gold1", "--period", "../gold1"]);
    assert!(code == Some(5) && said.contains("no period ../gold1"), "{said}");
}
