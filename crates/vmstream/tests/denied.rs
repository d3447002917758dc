//! What a user meets who may not read everything.

use crate::golden::Golden;
use crate::program::{VMSTREAM, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A place that everybody may enter, with a copy of the program; `None` for a user who cannot become another.
struct Open(Golden);

impl Open {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let golden = Golden::extract();
        mode(golden.root(), 0o755);
        // By a program: a child that another test forks in mid-copy would keep the file open for writing.
        let mut copy = Command::new("cp");
        copy.args([Path::new(VMSTREAM), golden.root()]);
        assert!(copy.status().unwrap().success());
        mode(&golden.root().join("vmstream"), 0o755);
        Some(Self(golden))
    }

    /// As nobody.
    fn vmstream(&self, dir: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(self.0.root().join("vmstream"));
        command.args(args).current_dir(dir).uid(65534).gid(65534).output().unwrap()
    }
}

#[test]
fn what_may_not_be_read_is_2_with_the_reason() {
    let Some(open) = Open::new() else { return };
    let dir = open.0.lz4();
    let commands: [&[&str]; 4] =
        [&["verify", "."], &["info", "."], &["doctor", "."], &["extract", ".", "--disk", "vda", "-o", "-"]];
    let run = |args: &[&str]| {
        let done = open.vmstream(&dir, args);
        let said = text(&done.stderr).to_owned() + &String::from_utf8_lossy(&done.stdout);
        // Without the line breaks for terminals.
        (done.status.code(), said.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for name in ["vda.full.data", "vda.inc.virtnbdbackup.3.data"] {
        mode(&dir.join(name), 0o600);
        for args in commands {
            let (exit, said) = run(args);
            // What it can look at may lack changes, which counts more.
            let want = if args[0] == "doctor" { 1 } else { 2 };
            assert_eq!(exit, Some(want), "{name} {args:?}: {said}");
            assert!(said.contains("Permission denied") && said.contains("vda"), "{name} {args:?}: {said}");
        }
        // Named itself.
        for command in ["verify", "info"] {
            let (exit, said) = run(&[command, name]);
            assert_eq!(exit, Some(2), "{name} {command}: {said}");
            assert!(said.contains("Permission denied") && said.contains(name), "{name} {command}: {said}");
        }
        mode(&dir.join(name), 0o644);
    }
    let copy = open.0.copy();
    assert_eq!(open.vmstream(&copy, &["doctor", "."]).status.code(), Some(0));
    mode(&copy.join("vda.copy.data"), 0o600);
    let done = open.vmstream(&copy, &["doctor", "."]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stdout));
    assert!(text(&done.stdout).contains("Permission denied"), "{}", text(&done.stdout));
    mode(&dir, 0o700);
    for args in commands {
        let args: Vec<_> = args.iter().map(|arg| if *arg == "." { "202611" } else { arg }).collect();
        let done = open.vmstream(dir.parent().unwrap(), &args);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {}", text(&done.stderr));
        assert!(text(&done.stderr).contains("Permission denied"), "{args:?}: {}", text(&done.stderr));
    }
}

#[test]
fn folders_that_only_root_may_enter_are_named_and_fail_nothing_that_they_do_not_hold() {
    let Some(open) = Open::new() else { return };
    let tree = open.0.root().join("lz4");
    let closed = |at: &str| {
        fs::create_dir_all(tree.join(at)).unwrap();
        mode(&tree.join(at), 0o700);
    };
    let run = |command: &str| {
        let done = open.vmstream(&tree, &[command, "."]);
        (done.status.code(), text(&done.stdout).to_owned(), text(&done.stderr).to_owned())
    };
    let all = ["verify", "info", "doctor"];
    let before = all.map(|command| run(command).0);
    assert_eq!(before[..2], [Some(0), Some(0)]);
    // Where the programs and the host keep their own: no word.
    ["_state", "__HOST_CONFIG__", "gold1/202611/tpm-state"].into_iter().for_each(closed);
    assert_eq!(all.map(|command| run(command).0), before);
    assert_eq!(run("verify").2.matches("is not looked at").count(), 0);
    // Anywhere else, and the file system's own.
    let named = ["lost+found", "gold1/lost+found", "gold1/_state", "gold1/tpm-state"];
    named.into_iter().for_each(closed);
    for (command, want) in all.iter().zip(before) {
        let (exit, said, notes) = run(command);
        assert_eq!(exit, want, "{command} {said} {notes}");
        for at in named {
            assert!(notes.contains(&format!("./{at} is not looked at: only root may enter it")), "{notes}");
        }
    }
    closed("another");
    for command in all {
        let (exit, said, _) = run(command);
        assert_ne!(exit, Some(0), "{command} {said}");
        assert!(
            said.contains("unreadable: Cannot read the folder ./another: Permission denied"),
            "{command} {said}"
        );
    }
    assert_eq!(run("verify").0, Some(2));
}
