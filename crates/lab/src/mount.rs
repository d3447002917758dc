//! Small file systems that can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Lab;
use super::command::{must, output_of};

/// A mounted file system of a fixed size. Unmounted when dropped, which must be before its [`Lab`] is.
#[derive(Debug)]
pub struct SmallFileSystem {
    path: PathBuf,
}

impl Lab {
    /// Mounts an empty file system in memory; everybody may write to it.
    pub fn small_file_system(&self, name: &str, mib: u64) -> SmallFileSystem {
        let path = self.new_dir(name);
        let options = format!("size={mib}m,mode=1777");
        must(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path));
        SmallFileSystem { path }
    }
}

impl SmallFileSystem {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as text, for a configuration.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("the lab's path is text")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Uses up every byte.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        for piece in [1 << 20, 4096, 1] {
            let zeroes = vec![0; piece];
            while file.write_all(&zeroes).is_ok() {}
        }
    }

    /// Gives the bytes back. The file system has them once the removal is written.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
        output_of(Command::new("sync").arg("--file-system").arg(&self.path));
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there must not keep the mount.
        output_of(Command::new("umount").arg("--lazy").arg(&self.path));
    }
}
