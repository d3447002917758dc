//! Paths in `_state`, the folder of the programs in a backup path. The names are those of the Bash program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{STATE, portable_name};

/// `BACKUP_PATH/_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    /// The state folder of a backup path. Touches nothing.
    pub fn of(backup_path: &Path) -> Self {
        Self { dir: backup_path.join(STATE) }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// PID file of the session that works in this backup path.
    pub fn session_lock(&self) -> PathBuf {
        self.dir.join("vmbackup.pid")
    }

    /// PID file of the program that works on a VM, by the VM's libvirt name, as the Bash programs have it. Where that one
    /// cannot be, the one with a portable name is there while the VM is worked on.
    pub fn vm_lock(&self, domain: &str) -> PathBuf {
        let portable = self.portable_vm_lock(domain).filter(|path| path.symlink_metadata().is_ok());
        portable.unwrap_or_else(|| self.locks().join(format!("vmbackup-{domain}.lock")))
    }

    /// The same under a name that every file system takes; `None` where that is no other one.
    pub fn portable_vm_lock(&self, domain: &str) -> Option<PathBuf> {
        portable_name(domain).map(|name| self.locks().join(format!("vmbackup-{name}.lock")))
    }

    fn locks(&self) -> PathBuf {
        self.dir.join("locks")
    }

    /// The folder of the journals.
    pub fn journals(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// What a run of a VM is about to own, by the VM's folder.
    pub fn journal(&self, vm_folder: &str) -> PathBuf {
        self.journals().join(format!("{vm_folder}.json"))
    }

    /// The database of what was done.
    pub fn database(&self) -> PathBuf {
        self.dir.join("vmbackup.db")
    }

    /// The flag that asks a replication under way to end.
    pub fn cancel_flag(&self) -> PathBuf {
        self.dir.join("cancel-replication")
    }

    /// Where logs are, unless the configuration says otherwise.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Where sessions are told of.
    pub fn reports(&self) -> PathBuf {
        self.dir.join("report")
    }

    /// Creates the folder, but never the backup path: an unmounted disk would be filled beside.
    pub fn make(&self) -> io::Result<()> {
        make(&self.dir)
    }

    /// Creates the folder where sessions are told of.
    pub fn create_reports(&self) -> io::Result<PathBuf> {
        self.create("report")
    }

    /// Creates the folder, and a folder in it.
    pub fn create(&self, name: &str) -> io::Result<PathBuf> {
        self.make()?;
        let dir = self.dir.join(name);
        make(&dir)?;
        Ok(dir)
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_in_a_backup_path_that_is_there_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        assert_eq!(state.create("logs").unwrap(), dir.path().join("_state/logs"));
        assert!(state.create("logs").unwrap().is_dir());
        let missing = dir.path().join("not-mounted");
        assert!(StateDir::of(&missing).create("logs").is_err());
        assert!(!missing.exists());
    }
}
