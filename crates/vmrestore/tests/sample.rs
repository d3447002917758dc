//! The sets of tests/data, unpacked with their times, and the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A backup path with a VM of the Bash program, `gold1`, and sets of plain virtnbdbackup beside it.
pub(crate) struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    pub(crate) fn unpack() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("logs")).expect("a folder");
        for (folder, tar) in [("bash", "vmbackup-0.5.3-lz4.tar"), ("plain", "virtnbdbackup-2.47-plain.tar")] {
            let into = dir.path().join(folder);
            std::fs::create_dir(&into).expect("a folder");
            let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(tar);
            let done = Command::new("tar").arg("xf").arg(&tar).arg("-C").arg(&into).status().expect("tar");
            assert!(done.success(), "{}", tar.display());
        }
        Self { dir }
    }

    /// The backup path of the Bash program.
    pub(crate) fn bash(&self) -> PathBuf {
        self.dir.path().join("bash")
    }

    /// The sets of plain virtnbdbackup: `chain` and `copy`.
    pub(crate) fn plain(&self) -> PathBuf {
        self.dir.path().join("plain")
    }

    /// Where logs go.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// Runs the program on a backup path.
    pub(crate) fn vmrestore(&self, root: &Path, arguments: &[&str]) -> Output {
        let mut command = command();
        command.arg("--backup-path").arg(root).args(arguments).env("LOG_DIR", self.logs());
        command.output().expect("vmrestore can be started")
    }
}

/// The program, without a configuration.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmrestore"));
    command.env("VMBACKUP_CONFIG_DIR", "/nonexistent").env_remove("VMBACKUP_INSTANCE").env("TZ", "UTC");
    command
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
