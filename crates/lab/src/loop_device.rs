//! Block devices over files.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::must;

/// A loop device. Detached when dropped.
#[derive(Debug)]
pub struct LoopDevice(PathBuf);

impl LoopDevice {
    pub fn over(file: &Path) -> Self {
        Self(must(Command::new("losetup").args(["--find", "--show"]).arg(file)).trim().into())
    }

    /// Its node in `/dev`.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("devices have plain names")
    }

    /// Whether the kernel counts what is written to it.
    pub fn count_writes(&self, count: bool) {
        let name = self.0.file_name().expect("a device").to_string_lossy();
        let switch = format!("/sys/block/{name}/queue/iostats");
        std::fs::write(switch, if count { "1" } else { "0" }).expect("a loop device has counters");
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
