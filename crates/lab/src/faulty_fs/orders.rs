//! What a test orders of a faulty file system, from mounting it to taking all faults away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fuser::{BackgroundSession, MountOption, SessionACL};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::faults::{Faults, Op};
use super::replies::Serving;
use crate::Lab;
use crate::command::output_of;

/// A mounted file system with faults. Unmounted when dropped, which must be before its [`Lab`] is.
#[derive(Debug)]
pub struct FaultyFileSystem {
    path: PathBuf,
    beneath: PathBuf,
    faults: Arc<Faults>,
    session: Option<BackgroundSession>,
}

/// Calls that hang until this is dropped.
#[derive(Debug)]
pub struct Hang {
    faults: Arc<Faults>,
    id: u64,
}

impl Drop for Hang {
    fn drop(&mut self) {
        self.faults.remove(self.id);
    }
}

impl Lab {
    /// Mounts an empty file system without a fault yet.
    pub fn faulty_file_system(&self, name: &str) -> FaultyFileSystem {
        let path = self.new_dir(name);
        let beneath = self.new_dir(&format!("{name}-beneath"));
        let faults = Arc::new(Faults::default());
        let serving = Serving(Arc::new(Beneath::new(&beneath, faults.clone()).expect("a folder")));
        let mut config = fuser::Config::default();
        config.mount_options =
            vec![MountOption::FSName("vmbackup-lab".into()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(serving, &path, &config)
            .unwrap_or_else(|error| panic!("Cannot mount FUSE at {}: {error}", path.display()));
        FaultyFileSystem { path, beneath, faults, session: Some(session) }
    }
}

impl FaultyFileSystem {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as text, for a configuration.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("the lab's path is text")
    }

    /// The folder that holds everything, without faults.
    pub fn beneath(&self) -> &Path {
        &self.beneath
    }

    /// One call fails: the one after `skip` others. `path` is compared with the last parts of a call's path.
    pub fn fail_once(&self, op: Op, path: impl AsRef<Path>, skip: usize, error: Errno) {
        self.faults.add_error(op, path.as_ref(), error, skip, 1);
    }

    /// All such calls fail, until [`FaultyFileSystem::heal`].
    pub fn fail(&self, op: Op, path: impl AsRef<Path>, error: Errno) {
        self.faults.add_error(op, path.as_ref(), error, 0, usize::MAX);
    }

    /// Such calls hang until the answer is dropped; then they are done.
    #[must_use]
    pub fn hang(&self, op: Op, path: impl AsRef<Path>) -> Hang {
        self.hang_after(op, path, 0)
    }

    /// The same, after so many others.
    #[must_use]
    pub fn hang_after(&self, op: Op, path: impl AsRef<Path>, skip: usize) -> Hang {
        Hang { faults: self.faults.clone(), id: self.faults.add_hang(op, path.as_ref(), skip) }
    }

    /// How many calls hang now.
    pub fn hanging(&self) -> usize {
        self.faults.hanging()
    }

    /// Upper and lower case are one from now on, and names with `:` are refused, as on FAT and NTFS.
    pub fn take_dos_names(&self) {
        self.faults.set_dos_names();
    }

    /// link(2) answers EPERM from now on, as on FAT.
    pub fn forget_links(&self) {
        self.faults.set_no_links();
    }

    /// mmap(2) with MAP_SHARED answers ENODEV from now on, of files that are opened then, as on 9p.
    pub fn refuse_shared_maps(&self) {
        self.faults.set_no_shared_maps();
    }

    /// renameat2(2) with any flag answers EINVAL from now on, as on NFS.
    pub fn forget_rename_flags(&self) {
        self.faults.set_no_rename_flags();
    }

    /// How often a call was made since the last [`FaultyFileSystem::heal`].
    pub fn calls(&self, op: Op, path: impl AsRef<Path>) -> usize {
        self.faults.calls(op, path.as_ref())
    }

    /// Takes all faults away, hangs too, and begins to count anew.
    pub fn heal(&self) {
        self.faults.clear();
    }
}

impl Drop for FaultyFileSystem {
    fn drop(&mut self) {
        self.heal();
        // Lazily: whoever still has a file open there must not keep the mount.
        output_of(Command::new("umount").arg("--lazy").arg(&self.path));
        drop(self.session.take());
    }
}
