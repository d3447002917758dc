//! Disks whose last chain ended because they had changed and nothing said so. Another time in a row is no accident.
//!
//! A line is a disk target. An increment that is well ends it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use super::StateDir;

const FOLDER: &str = "changed-unseen";

/// What is noted of one VM.
#[derive(Debug)]
pub struct TrippedDisks<'a> {
    state: &'a StateDir,
    vm_folder: &'a str,
}

impl<'a> TrippedDisks<'a> {
    /// Of the VM with this folder in the backup path. Touches nothing.
    pub fn of(state: &'a StateDir, vm_folder: &'a str) -> Self {
        Self { state, vm_folder }
    }

    fn file(&self) -> PathBuf {
        self.state.path().join(FOLDER).join(self.vm_folder)
    }

    /// Notes this one too. True when it was noted before.
    pub fn add(&self, disk: &str) -> io::Result<bool> {
        let mut text = match fs::read_to_string(self.file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read?,
        };
        if text.lines().any(|line| line == disk) {
            return Ok(true);
        }
        text += &format!("{disk}\n");
        self.state.create(FOLDER)?;
        // One that is cut off costs a hint.
        vmstream::fresh::create(&self.file(), 0o640)?.write_all(text.as_bytes())?;
        Ok(false)
    }

    /// Forgets them: they were as expected.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
