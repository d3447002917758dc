//! Notes which checkpoints belonged to chains that were removed, so that those that libvirt still has are known as ours.
//!
//! libvirt keeps the checkpoints of a VM that is shut off, and `--prune` asks no daemon. The XML in a chain's folder tells whose a
//! checkpoint is; what it told stays here when the folder goes, until a backup of the running VM has removed the checkpoints too.
//! A line is `NAME SECONDS`: the checkpoint's name, and the time at which libvirt made it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

use crate::{StateDir, durable};

const FOLDER: &str = "removed-checkpoints";

/// What is noted of one VM.
#[derive(Debug)]
pub struct RemovedCheckpoints<'a> {
    state: &'a StateDir,
    vm_folder: &'a str,
}

/// A checkpoint's name, and when libvirt made it, in seconds since 1970, as text.
pub type Mark = (String, String);

impl<'a> RemovedCheckpoints<'a> {
    /// Of the VM with this folder in the backup path. Touches nothing.
    pub fn of(state: &'a StateDir, vm_folder: &'a str) -> Self {
        Self { state, vm_folder }
    }

    fn file(&self) -> PathBuf {
        self.state.path().join(FOLDER).join(self.vm_folder)
    }

    /// Notes these too. Durable when it returns; noting one again changes nothing.
    pub fn add(&self, marks: &BTreeSet<Mark>) -> io::Result<()> {
        let new: String =
            marks.difference(&self.read()).map(|(name, time)| format!("{name} {time}\n")).collect();
        if new.is_empty() {
            return Ok(());
        }
        let dir = self.state.create(FOLDER)?;
        let no_follow = OFlags::NOFOLLOW.bits() as i32;
        let mut file = File::options().create(true).append(true).custom_flags(no_follow).open(self.file())?;
        file.write_all(new.as_bytes())?;
        file.sync_all()?;
        durable::sync_folder(&dir)
    }

    /// All that is noted. A line that was cut off is no checkpoint of libvirt's.
    pub fn read(&self) -> BTreeSet<Mark> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let mark = |line: &str| line.split_once(' ').map(|(name, time)| (name.to_owned(), time.to_owned()));
        text.lines().filter_map(mark).collect()
    }

    /// Forgets them: libvirt has none of them any more.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
