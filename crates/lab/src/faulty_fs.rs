//! A file system that does what is asked of it, but for the faults a test orders: errors, calls that hang, links or flags
//! of rename that it does not know.
//!
//! It passes every call through to a folder beneath, over FUSE, served by threads of the test. Nothing is cached by the
//! kernel, so a fault meets each call. Needs /dev/fuse, no program of FUSE's.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, SessionACL,
    TimeOrNow, WriteFlags,
};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    Uid,
};
use rustix::io::Errno;

use super::Lab;
use super::command::output_of;
use super::faults::{Faults, Op};

/// Nothing is kept by the kernel.
const TTL: Duration = Duration::ZERO;

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
        let serving = Serving(Arc::new(Inner::new(&beneath, faults.clone()).expect("a folder")));
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
        Hang { faults: self.faults.clone(), id: self.faults.add_hang(op, path.as_ref()) }
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

/// A file the kernel knows, and how often it asked for it.
struct Node {
    file: Arc<File>,
    lookups: u64,
}

enum Opened {
    File(File),
    Dir(Vec<(u64, FileType, std::ffi::OsString)>),
}

struct Inner {
    root: PathBuf,
    root_number: u64,
    faults: Arc<Faults>,
    nodes: Mutex<HashMap<u64, Node>>,
    opened: Mutex<HashMap<u64, Arc<Opened>>>,
    last_handle: AtomicU64,
}

type Result<T> = std::result::Result<T, Errno>;

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn answer(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

impl Inner {
    fn new(beneath: &Path, faults: Arc<Faults>) -> io::Result<Self> {
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

    fn node(&self, ino: INodeNo) -> Result<Arc<File>> {
        let nodes = self.nodes.lock().expect("whole");
        nodes.get(&ino.0).map(|node| node.file.clone()).ok_or(Errno::STALE)
    }

    fn opened(&self, handle: FileHandle) -> Result<Arc<Opened>> {
        self.opened.lock().expect("whole").get(&handle.0).cloned().ok_or(Errno::BADF)
    }

    fn file<T>(&self, handle: FileHandle, work: impl FnOnce(&File) -> io::Result<T>) -> Result<T> {
        match &*self.opened(handle)? {
            Opened::File(file) => work(file).map_err(errno),
            Opened::Dir(_) => Err(Errno::ISDIR),
        }
    }

    fn keep_open(&self, opened: Opened) -> FileHandle {
        let handle = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        self.opened.lock().expect("whole").insert(handle, Arc::new(opened));
        FileHandle(handle)
    }

    /// The path below the root, as the faults know it.
    fn path(&self, file: &File) -> PathBuf {
        let whole = fs::read_link(by_descriptor(file)).unwrap_or_default();
        whole.strip_prefix(&self.root).unwrap_or(&whole).to_owned()
    }

    fn meet(&self, op: Op, ino: INodeNo) -> Result<Arc<File>> {
        let file = self.node(ino)?;
        self.faults.meet(op, &[&self.path(&file)])?;
        Ok(file)
    }

    fn meet_name(&self, op: Op, parent: INodeNo, name: &OsStr) -> Result<Arc<File>> {
        let dir = self.node(parent)?;
        self.faults.meet(op, &[&self.path(&dir).join(name)])?;
        Ok(dir)
    }

    /// The name that is meant, where upper and lower case are one and DOS's signs are none of a name.
    fn real(&self, dir: &File, name: &OsStr) -> Result<OsString> {
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
    fn found(&self, dir: &File, name: &OsStr) -> Result<FileAttr> {
        let open = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(dir, name, open, Mode::empty())?);
        let about = file.metadata().map_err(errno)?;
        let mut nodes = self.nodes.lock().expect("whole");
        nodes.entry(self.number(&about)).or_insert(Node { file: Arc::new(file), lookups: 0 }).lookups += 1;
        Ok(self.attributes(&about))
    }

    fn attributes(&self, about: &Metadata) -> FileAttr {
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

    fn list(&self, dir: &File) -> io::Result<Opened> {
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
fn by_descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives a new file the mode that was asked for: our own umask must not show.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let kept = file.metadata()?.mode() & 0o2000;
    fs::set_permissions(by_descriptor(file), Permissions::from_mode((mode & 0o7777) | kept))
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() }
        }
    }
}

/// Every request has a thread of its own, so that one that hangs keeps no other.
struct Serving(Arc<Inner>);

impl Serving {
    fn spawn(&self, work: impl FnOnce(&Inner) + Send + 'static) {
        let inner = self.0.clone();
        std::thread::spawn(move || work(&inner));
    }

    fn empty(&self, reply: ReplyEmpty, work: impl FnOnce(&Inner) -> Result<()> + Send + 'static) {
        self.spawn(move |inner| match work(inner) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(answer(e)),
        });
    }

    fn entry(&self, reply: ReplyEntry, work: impl FnOnce(&Inner) -> Result<FileAttr> + Send + 'static) {
        self.spawn(move |inner| match work(inner) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(e) => reply.error(answer(e)),
        });
    }

    fn attr(&self, reply: ReplyAttr, work: impl FnOnce(&Inner) -> Result<FileAttr> + Send + 'static) {
        self.spawn(move |inner| match work(inner) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(e) => reply.error(answer(e)),
        });
    }

    fn data(&self, reply: ReplyData, work: impl FnOnce(&Inner) -> Result<Vec<u8>> + Send + 'static) {
        self.spawn(move |inner| match work(inner) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(answer(e)),
        });
    }

    fn open_with(&self, reply: ReplyOpen, work: impl FnOnce(&Inner) -> Result<Opened> + Send + 'static) {
        self.spawn(move |inner| match work(inner) {
            Ok(opened) => reply.opened(inner.keep_open(opened), FopenFlags::empty()),
            Err(e) => reply.error(answer(e)),
        });
    }

    fn close(&self, handle: FileHandle, reply: ReplyEmpty) {
        self.0.opened.lock().expect("whole").remove(&handle.0);
        reply.ok();
    }
}

impl Filesystem for Serving {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.entry(reply, move |inner| {
            let dir = inner.meet_name(Op::Lookup, parent, &name)?;
            let name = inner.real(&dir, &name)?;
            inner.found(&dir, &name)
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        let mut nodes = self.0.nodes.lock().expect("whole");
        let Some(node) = nodes.get_mut(&ino.0) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 && ino != INodeNo::ROOT {
            nodes.remove(&ino.0);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.attr(reply, move |inner| {
            let file = inner.meet(Op::GetAttr, ino)?;
            Ok(inner.attributes(&file.metadata().map_err(errno)?))
        });
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.attr(reply, move |inner| {
            let file = inner.meet(Op::SetAttr, ino)?;
            let path = by_descriptor(&file);
            if let Some(mode) = mode {
                fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777)).map_err(errno)?;
            }
            if uid.is_some() || gid.is_some() {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                rustix::fs::chownat(&*file, "", uid, gid, AtFlags::EMPTY_PATH)?;
            }
            if let Some(size) = size {
                let opened = File::options().write(true).open(&path).map_err(errno)?;
                opened.set_len(size).map_err(errno)?;
            }
            if atime.is_some() || mtime.is_some() {
                let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?;
            }
            Ok(inner.attributes(&file.metadata().map_err(errno)?))
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.data(reply, move |inner| {
            let file = inner.meet(Op::ReadLink, ino)?;
            Ok(rustix::fs::readlinkat(&*file, "", Vec::new())?.into_bytes())
        });
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let name = name.to_owned();
        self.entry(reply, move |inner| {
            let dir = inner.meet_name(Op::MkDir, parent, &name)?;
            let name = inner.real(&dir, &name)?;
            rustix::fs::mkdirat(&*dir, &name, Mode::from_raw_mode((mode & 0o7777) as RawMode))?;
            inner.found(&dir, &name)?;
            let made = by_descriptor(&dir).join(&name);
            set_mode(&File::open(made).map_err(errno)?, mode & !umask).map_err(errno)?;
            let about = fs::symlink_metadata(by_descriptor(&dir).join(&name)).map_err(errno)?;
            Ok(inner.attributes(&about))
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.empty(reply, move |inner| {
            let dir = inner.meet_name(Op::Unlink, parent, &name)?;
            let name = inner.real(&dir, &name)?;
            rustix::fs::unlinkat(&*dir, &name, AtFlags::empty())
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.empty(reply, move |inner| {
            let dir = inner.meet_name(Op::RmDir, parent, &name)?;
            let name = inner.real(&dir, &name)?;
            rustix::fs::unlinkat(&*dir, &name, AtFlags::REMOVEDIR)
        });
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (name.to_owned(), target.to_owned());
        self.entry(reply, move |inner| {
            let dir = inner.meet_name(Op::Symlink, parent, &name)?;
            let name = inner.real(&dir, &name)?;
            rustix::fs::symlinkat(&target, &*dir, &name)?;
            inner.found(&dir, &name)
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.empty(reply, move |inner| {
            let (from, to) = (inner.node(parent)?, inner.node(new_parent)?);
            let (name, new_name) = (inner.real(&from, &name)?, inner.real(&to, &new_name)?);
            let paths = (inner.path(&from).join(&name), inner.path(&to).join(&new_name));
            inner.faults.meet(Op::Rename, &[&paths.0, &paths.1])?;
            if !flags.is_empty() && inner.faults.no_rename_flags() {
                return Err(Errno::INVAL);
            }
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            rustix::fs::renameat_with(&*from, &name, &*to, &new_name, flags)
        });
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.entry(reply, move |inner| {
            let dir = inner.meet_name(Op::Link, parent, &name)?;
            let name = inner.real(&dir, &name)?;
            if inner.faults.no_links() {
                return Err(Errno::PERM);
            }
            let file = inner.node(ino)?;
            rustix::fs::linkat(&*file, "", &*dir, &name, AtFlags::EMPTY_PATH)?;
            inner.found(&dir, &name)
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.open_with(reply, move |inner| {
            let file = inner.meet(Op::Open, ino)?;
            let kept = OFlags::ACCMODE | OFlags::TRUNC;
            let flags = (OFlags::from_bits_retain(flags.0 as u32) & kept) | OFlags::CLOEXEC;
            let opened = rustix::fs::open(by_descriptor(&file), flags, Mode::empty())?;
            Ok(Opened::File(opened.into()))
        });
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let name = name.to_owned();
        self.spawn(move |inner| {
            let made = inner.meet_name(Op::Create, parent, &name).and_then(|dir| {
                let name = inner.real(&dir, &name)?;
                let kept = OFlags::ACCMODE | OFlags::TRUNC | OFlags::EXCL;
                let flags =
                    (OFlags::from_bits_retain(flags as u32) & kept) | OFlags::CREATE | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(&*dir, &name, flags, Mode::RUSR | Mode::WUSR)?);
                set_mode(&file, mode & !umask).map_err(errno)?;
                Ok((inner.found(&dir, &name)?, inner.keep_open(Opened::File(file))))
            });
            match made {
                Ok((attributes, handle)) => {
                    reply.created(&TTL, &attributes, Generation(0), handle, FopenFlags::empty());
                }
                Err(e) => reply.error(answer(e)),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.data(reply, move |inner| {
            inner.meet(Op::Read, ino)?;
            inner.file(handle, |file| {
                let mut bytes = vec![0; size as usize];
                let mut filled = 0;
                while filled < bytes.len() {
                    match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
                        0 => break,
                        more => filled += more,
                    }
                }
                bytes.truncate(filled);
                Ok(bytes)
            })
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = bytes.to_owned();
        self.spawn(move |inner| {
            let written = inner
                .meet(Op::Write, ino)
                .and_then(|_| inner.file(handle, |file| file.write_all_at(&bytes, offset)));
            match written {
                Ok(()) => reply.written(bytes.len() as u32),
                Err(e) => reply.error(answer(e)),
            }
        });
    }

    fn flush(&self, _: &Request, ino: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.empty(reply, move |inner| inner.meet(Op::Flush, ino).map(|_| ()));
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.close(handle, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(reply, move |inner| {
            inner.meet(Op::FSync, ino)?;
            inner.file(handle, File::sync_all)
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.open_with(reply, move |inner| {
            let dir = inner.meet(Op::OpenDir, ino)?;
            inner.list(&dir).map_err(errno)
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.spawn(move |inner| {
            let listed = inner.meet(Op::ReadDir, ino).and_then(|_| inner.opened(handle));
            match listed.as_deref() {
                Ok(Opened::Dir(entries)) => {
                    for (at, (number, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
                        if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Ok(Opened::File(_)) => reply.error(answer(Errno::NOTDIR)),
                Err(e) => reply.error(answer(*e)),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.close(handle, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(reply, move |inner| inner.meet(Op::FSyncDir, ino).map(|_| ()));
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.spawn(move |inner| {
            let about = inner.meet(Op::StatFs, ino).and_then(|_| rustix::fs::statvfs(&inner.root));
            match about {
                Ok(about) => reply.statfs(
                    about.f_blocks,
                    about.f_bfree,
                    about.f_bavail,
                    about.f_files,
                    about.f_ffree,
                    about.f_bsize as u32,
                    about.f_namemax as u32,
                    about.f_frsize as u32,
                ),
                Err(e) => reply.error(answer(e)),
            }
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, move |inner| {
            inner.meet(Op::Allocate, ino)?;
            let mode = FallocateFlags::from_bits_retain(mode as u32);
            inner.file(handle, |file| Ok(rustix::fs::fallocate(file, mode, offset, len)?))
        });
    }
}
