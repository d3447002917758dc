//! What each call of the kernel does: it meets its faults, and is then passed on to the folder beneath.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    Uid,
};
use rustix::io::Errno;

use super::beneath::{Opened, by_descriptor, errno, set_mode};
use super::faults::Op;
use super::replies::{Serving, TTL, answer, kind_of_open};

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
        self.0.forget(ino, lookups);
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
            let kind = kind_of_open(inner);
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
                    reply.created(&TTL, &attributes, Generation(0), handle, kind);
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
