//! What `--verify` and `--dump` say, their log, and how they end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::schema::answer_of;
use serde_json::Value;

use crate::sample::{Sample, err, out};

/// Flips a bit in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("ours");
}

#[test]
fn a_good_set_is_proven_and_the_log_tells_it() {
    let sample = Sample::unpack();
    for arguments in [&["--verify", "gold1"][..], &["--verify", "gold1", "--deep"], &["--verify", "--all"]] {
        let said = sample.vmrestore(&sample.bash(), arguments);
        assert_eq!((said.status.code(), out(&said)), (Some(0), String::new()), "{}", err(&said));
        assert!(
            err(&said).contains("[vmrestore] [main] INFO: Verification passed: backup checksums are valid")
        );
    }
    let logs: Vec<_> =
        fs::read_dir(sample.logs()).expect("logs").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(logs.len(), 3);
    for log in logs {
        assert_eq!(log.metadata().expect("a log").permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&log).expect("a log");
        for part in [
            "Invocation:   vmrestore --backup-path",
            "Mode:         verify",
            "Verification passed",
            "Exit Status:  0",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn damage_and_what_nothing_proves_are_no_success() {
    let sample = Sample::unpack();
    damage(&sample.bash().join("gold1/202611/vda.inc.virtnbdbackup.2.data"));
    let said = sample.vmrestore(&sample.bash(), &["--verify", "gold1"]);
    assert_eq!(said.status.code(), Some(1), "{}", err(&said));
    assert!(
        err(&said).contains("ERROR: Verification FAILED: gold1 is damaged, 2 of 4 restore points"),
        "{}",
        err(&said)
    );
    let answer =
        answer_of("vmrestore", "verify", &sample.vmrestore(&sample.bash(), &["--verify", "gold1", "--json"]));
    assert_eq!(
        (&answer["vms"][0]["verdict"], &answer["vms"][0]["points"][2]["disks"]["vda"]),
        (&"damaged".into(), &"lost".into())
    );
    assert!(answer["log_file"].is_string(), "{answer:#}");
    // A raw image has no checksum.
    let said = sample.vmrestore(&sample.plain(), &["--verify", "chain"]);
    assert_eq!(said.status.code(), Some(1), "{}", err(&said));
    assert!(err(&said).contains("nothing proves 3 of 3 restore points"), "{}", err(&said));
    // One of several that is not there does not keep the others from being looked at.
    let said = sample.vmrestore(&sample.bash(), &["--verify", "nobody,gold1", "--json"]);
    let answer = answer_of("vmrestore", "verify", &said);
    assert_eq!(
        (said.status.code(), &answer["vms"][1]["verdict"]),
        (Some(5), &"damaged".into()),
        "{answer:#}"
    );
}

#[test]
fn streams_are_dumped_as_virtnbdrestore_prints_them() {
    let sample = Sample::unpack();
    let dumped = sample.vmrestore(&sample.plain(), &["--dump", "chain"]);
    let ours: Value = serde_json::from_slice(&dumped.stdout).expect("JSON");
    let mut theirs = std::process::Command::new("virtnbdrestore");
    theirs.arg("-i").arg(sample.plain().join("chain")).args(["-o", "dump"]).current_dir(sample.logs());
    let theirs: Value =
        serde_json::from_slice(&theirs.output().expect("virtnbdrestore").stdout).expect("JSON");
    assert_eq!(ours, theirs);
    let answer =
        answer_of("vmrestore", "dump", &sample.vmrestore(&sample.plain(), &["--dump", "chain", "--json"]));
    assert_eq!(answer["streams"], ours);
}

#[test]
fn modes_that_do_not_go_together_are_refused() {
    let sample = Sample::unpack();
    for (arguments, want) in [
        (&["--list", "--verify", "x"][..], "--list and --verify cannot be used together"),
        (&["--verify"], "--verify needs the name of a VM, or --all"),
        (&["--verify", "x", "--all"], "--all and the name of a VM cannot be used together"),
        (&["--dump", "a,b"], "--dump works on one VM at a time"),
        (
            &["--list-restore-points"],
            "--list-restore-points needs the name of a VM: --list-restore-points web",
        ),
        (&["--list", "--deep"], "--deep needs --verify"),
        (&["--dump", ","], "--dump ,: that names no VM"),
    ] {
        let said = sample.vmrestore(&sample.bash(), arguments);
        assert_eq!((said.status.code(), err(&said)), (Some(7), format!("Error: {want}\n")), "{arguments:?}");
    }
}
