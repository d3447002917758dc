//! The folder beneath a faulty file system: what the kernel knows of it by number, and what is open there.
//!
//! Lives here: numbers, names and descriptors, and how each call meets its faults. Must not live here: what a call does
//! (`serving`), which faults there are (`faults`).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{FileAttr, FileHandle, FileType, INodeNo};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::faults::{Faults, Op};

/// A file the kernel knows, and how often it asked for it.
struct Node {
    file: Arc<File>,
    lookups: u64,
}

pub(super) enum Opened {
    File(File),
    Dir(Vec<(u64, FileType, std::ffi::OsString)>),
}

pub(super) struct Beneath {
    pub(super) root: PathBuf,
    root_number: u64,
    pub(super) faults: Arc<Faults>,
    nodes: Mutex<HashMap<u64, Node>>,
    opened: Mutex<HashMap<u64, Arc<Opened>>>,
    last_handle: AtomicU64,
}

pub(super) type Result<T> = std::result::Result<T, Errno>;

pub(super) fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl Beneath {
    pub(super) fn new(beneath: &Path, faults: Arc<Faults>) -> io::Result<Self> {
        let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = File::from(rustix::fs::open(beneath, open, Mode::empty())?);
        let root_number = root.metadata()?.ino();
        let node = Node { file: Arc::new(root), lookups: 1 };
        Ok(Self {
            root: beneath.to_owned(),
            root_number,
            faults,
            nodes: Mutex::new(HashMap::from([(INodeNo::ROOT.0, node)])),
            opened: Mutex::default(),
            last_handle: AtomicU64::new(0),
        })
    }

    /// Hard links keep one number: it is the file's own.
    fn number(&self, about: &Metadata) -> u64 {
        if about.ino() == self.root_number { INodeNo::ROOT.0 } else { about.ino() }
    }

    pub(super) fn node(&self, ino: INodeNo) -> Result<Arc<File>> {
        let nodes = self.nodes.lock().expect("whole");
        nodes.get(&ino.0).map(|node| node.file.clone()).ok_or(Errno::STALE)
    }

    pub(super) fn opened(&self, handle: FileHandle) -> Result<Arc<Opened>> {
        self.opened.lock().expect("whole").get(&handle.0).cloned().ok_or(Errno::BADF)
    }

    pub(super) fn file<T>(&self, handle: FileHandle, work: impl FnOnce(&File) -> io::Result<T>) -> Result<T> {
        match &*self.opened(handle)? {
            Opened::File(file) => work(file).map_err(errno),
            Opened::Dir(_) => Err(Errno::ISDIR),
        }
    }

    pub(super) fn keep_open(&self, opened: Opened) -> FileHandle {
        let handle = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        self.opened.lock().expect("whole").insert(handle, Arc::new(opened));
        FileHandle(handle)
    }

    pub(super) fn close(&self, handle: FileHandle) {
        self.opened.lock().expect("whole").remove(&handle.0);
    }

    /// The kernel forgets a number that it asked for so many times.
    pub(super) fn forget(&self, ino: INodeNo, lookups: u64) {
        let mut nodes = self.nodes.lock().expect("whole");
        let Some(node) = nodes.get_mut(&ino.0) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 && ino != INodeNo::ROOT {
            nodes.remove(&ino.0);
        }
    }

    /// The path below the root, as the faults know it.
    pub(super) fn path(&self, file: &File) -> PathBuf {
        let whole = fs::read_link(by_descriptor(file)).unwrap_or_default();
        whole.strip_prefix(&self.root).unwrap_or(&whole).to_owned()
    }

    pub(super) fn meet(&self, op: Op, ino: INodeNo) -> Result<Arc<File>> {
        let file = self.node(ino)?;
        self.faults.meet(op, &[&self.path(&file)])?;
        Ok(file)
    }

    pub(super) fn meet_name(&self, op: Op, parent: INodeNo, name: &OsStr) -> Result<Arc<File>> {
        let dir = self.node(parent)?;
        self.faults.meet(op, &[&self.path(&dir).join(name)])?;
        Ok(dir)
    }

    /// The name that is meant, where upper and lower case are one and DOS's signs are none of a name.
    pub(super) fn real(&self, dir: &File, name: &OsStr) -> Result<OsString> {
        if !self.faults.dos_names() {
            return Ok(name.to_owned());
        }
        if name.as_encoded_bytes().iter().any(|byte| b":*?\"<>|\\".contains(byte)) {
            return Err(Errno::INVAL);
        }
        let names = fs::read_dir(by_descriptor(dir)).map_err(errno)?.flatten().map(|entry| entry.file_name());
        let mut same = names.filter(|there| there.eq_ignore_ascii_case(name));
        Ok(same.next().unwrap_or_else(|| name.to_owned()))
    }

    /// What the kernel is told of a name, which counts as asked for.
    pub(super) fn found(&self, dir: &File, name: &OsStr) -> Result<FileAttr> {
        let open = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(dir, name, open, Mode::empty())?);
        let about = file.metadata().map_err(errno)?;
        let mut nodes = self.nodes.lock().expect("whole");
        nodes.entry(self.number(&about)).or_insert(Node { file: Arc::new(file), lookups: 0 }).lookups += 1;
        Ok(self.attributes(&about))
    }

    pub(super) fn attributes(&self, about: &Metadata) -> FileAttr {
        let time = |seconds: i64, nanos: i64| {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanos).unwrap_or_default())
        };
        FileAttr {
            ino: INodeNo(self.number(about)),
            size: about.size(),
            blocks: about.blocks(),
            atime: time(about.atime(), about.atime_nsec()),
            mtime: time(about.mtime(), about.mtime_nsec()),
            ctime: time(about.ctime(), about.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: FileType::from_std(about.file_type()).unwrap_or(FileType::RegularFile),
            perm: (about.mode() & 0o7777) as u16,
            nlink: u32::try_from(about.nlink()).unwrap_or(u32::MAX),
            uid: about.uid(),
            gid: about.gid(),
            rdev: u32::try_from(about.rdev()).unwrap_or_default(),
            blksize: 4096,
            flags: 0,
        }
    }

    pub(super) fn list(&self, dir: &File) -> io::Result<Opened> {
        let mut entries = vec![(1, FileType::Directory, ".".into()), (1, FileType::Directory, "..".into())];
        for entry in fs::read_dir(by_descriptor(dir))? {
            let entry = entry?;
            let kind = FileType::from_std(entry.file_type()?).unwrap_or(FileType::RegularFile);
            entries.push((self.number(&entry.metadata()?), kind, entry.file_name()));
        }
        Ok(Opened::Dir(entries))
    }
}

/// A name for whatever an `O_PATH` descriptor stands for.
pub(super) fn by_descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives a new file the mode that was asked for: our own umask must not show.
pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let kept = file.metadata()?.mode() & 0o2000;
    fs::set_permissions(by_descriptor(file), Permissions::from_mode((mode & 0o7777) | kept))
}
