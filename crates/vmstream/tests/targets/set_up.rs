//! Programs that must succeed, hashes, and loop devices.

use crate::golden::Golden;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub(super) fn sha256(path: &Path) -> String {
    run(Command::new("sha256sum").arg(path)).split(' ').next().unwrap().to_owned()
}

/// Each disk at each point of the LZ4 set, with the hash recorded on the live VM.
pub(super) fn recorded(golden: &Golden) -> Vec<(String, String, String)> {
    let lines = std::fs::read_to_string(golden.root().join("lz4/sha256.live")).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = words[0].strip_prefix("point")?;
        Some((format!("virtnbdbackup.{number}"), words[1].to_owned(), words[2].to_owned()))
    };
    let all: Vec<_> = lines.lines().filter_map(line).collect();
    assert_eq!(all.len(), 8);
    all
}

/// A loop device over a file. Detached when dropped.
pub(super) struct Loop(pub(super) PathBuf);

impl Loop {
    pub(super) fn over(file: &Path) -> Self {
        Self(run(Command::new("losetup").args(["--find", "--show"]).arg(file)).trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
