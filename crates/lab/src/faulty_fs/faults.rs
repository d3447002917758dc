//! What goes wrong on a [`FaultyFileSystem`](super::FaultyFileSystem), on which call and how often.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use rustix::io::Errno;

/// A request of the kernel.
///
/// `lstat(2)` ends with a `GetAttr`. Every access by name begins with a `Lookup` of each part of the path; when that of a
/// name it knows fails, the kernel forgets the name and asks a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Lookup,
    GetAttr,
    SetAttr,
    ReadLink,
    MkDir,
    Unlink,
    RmDir,
    Symlink,
    /// Of either name.
    Rename,
    /// Of the new name.
    Link,
    Open,
    Create,
    Read,
    Write,
    Flush,
    FSync,
    OpenDir,
    ReadDir,
    FSyncDir,
    StatFs,
    Allocate,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Error(Errno),
    Hang,
}

#[derive(Debug)]
struct Fault {
    id: u64,
    op: Op,
    /// The last parts of the path, or the whole path below the root of the file system.
    path: PathBuf,
    kind: Kind,
    skip: usize,
    left: usize,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    calls: Vec<(Op, PathBuf)>,
    hanging: usize,
    last_id: u64,
    no_links: bool,
    no_shared_maps: bool,
    no_rename_flags: bool,
    dos_names: bool,
}

/// All faults of one file system.
#[derive(Debug, Default)]
pub(super) struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

impl Faults {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    pub(super) fn add_error(&self, op: Op, path: &Path, error: Errno, skip: usize, times: usize) {
        self.add(op, path, Kind::Error(error), skip, times);
    }

    pub(super) fn add_hang(&self, op: Op, path: &Path, skip: usize) -> u64 {
        self.add(op, path, Kind::Hang, skip, usize::MAX)
    }

    fn add(&self, op: Op, path: &Path, kind: Kind, skip: usize, left: usize) -> u64 {
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.faults.push(Fault { id, op, path: path.to_owned(), kind, skip, left });
        id
    }

    pub(super) fn remove(&self, id: u64) {
        self.lock().faults.retain(|fault| fault.id != id);
        self.changed.notify_all();
    }

    pub(super) fn clear(&self) {
        let mut state = self.lock();
        *state = State { last_id: state.last_id, hanging: state.hanging, ..State::default() };
        self.changed.notify_all();
    }

    pub(super) fn set_no_links(&self) {
        self.lock().no_links = true;
    }

    pub(super) fn set_no_shared_maps(&self) {
        self.lock().no_shared_maps = true;
    }

    pub(super) fn no_shared_maps(&self) -> bool {
        self.lock().no_shared_maps
    }

    pub(super) fn set_no_rename_flags(&self) {
        self.lock().no_rename_flags = true;
    }

    pub(super) fn set_dos_names(&self) {
        self.lock().dos_names = true;
    }

    pub(super) fn dos_names(&self) -> bool {
        self.lock().dos_names
    }

    pub(super) fn no_links(&self) -> bool {
        self.lock().no_links
    }

    pub(super) fn no_rename_flags(&self) -> bool {
        self.lock().no_rename_flags
    }

    pub(super) fn calls(&self, op: Op, path: &Path) -> usize {
        self.lock().calls.iter().filter(|(called, at)| *called == op && at.ends_with(path)).count()
    }

    pub(super) fn hanging(&self) -> usize {
        self.lock().hanging
    }

    /// Notes a call; fails or hangs it when that was asked for.
    pub(super) fn meet(&self, op: Op, paths: &[&Path]) -> Result<(), Errno> {
        let mut state = self.lock();
        state.calls.extend(paths.iter().map(|path| (op, (*path).to_owned())));
        for i in 0..state.faults.len() {
            let fault = &mut state.faults[i];
            if fault.op != op || fault.left == 0 || !paths.iter().any(|path| path.ends_with(&fault.path)) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.left = fault.left.saturating_sub(1);
            match fault.kind {
                Kind::Error(error) => return Err(error),
                Kind::Hang => {
                    let id = fault.id;
                    state.hanging += 1;
                    while state.faults.iter().any(|fault| fault.id == id) {
                        state = self.changed.wait(state).expect("nothing panics with it");
                    }
                    state.hanging -= 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
