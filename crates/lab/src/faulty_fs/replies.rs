//! How a request is answered: each in a thread of its own, and what every kind of reply says of an error.

use std::sync::Arc;
use std::time::Duration;

use fuser::{
    FileAttr, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
};
use rustix::io::Errno;

use super::beneath::{Beneath, Opened, Result};

/// Nothing is kept by the kernel.
pub(super) const TTL: Duration = Duration::ZERO;

pub(super) fn answer(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

/// The kernel maps no file that it reads past its cache.
pub(super) fn kind_of_open(inner: &Beneath) -> FopenFlags {
    if inner.faults.no_shared_maps() { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() }
}

/// Every request has a thread of its own, so that one that hangs keeps no other.
pub(super) struct Serving(pub(super) Arc<Beneath>);

impl Serving {
    pub(super) fn spawn(&self, work: impl FnOnce(&Beneath) + Send + 'static) {
        let inner = self.0.clone();
        std::thread::spawn(move || work(&inner));
    }

    pub(super) fn empty(
        &self,
        reply: ReplyEmpty,
        work: impl FnOnce(&Beneath) -> Result<()> + Send + 'static,
    ) {
        self.spawn(move |inner| match work(inner) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(answer(e)),
        });
    }

    pub(super) fn entry(
        &self,
        reply: ReplyEntry,
        work: impl FnOnce(&Beneath) -> Result<FileAttr> + Send + 'static,
    ) {
        self.spawn(move |inner| match work(inner) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(e) => reply.error(answer(e)),
        });
    }

    pub(super) fn attr(
        &self,
        reply: ReplyAttr,
        work: impl FnOnce(&Beneath) -> Result<FileAttr> + Send + 'static,
    ) {
        self.spawn(move |inner| match work(inner) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(e) => reply.error(answer(e)),
        });
    }

    pub(super) fn data(
        &self,
        reply: ReplyData,
        work: impl FnOnce(&Beneath) -> Result<Vec<u8>> + Send + 'static,
    ) {
        self.spawn(move |inner| match work(inner) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(answer(e)),
        });
    }

    pub(super) fn open_with(
        &self,
        reply: ReplyOpen,
        work: impl FnOnce(&Beneath) -> Result<Opened> + Send + 'static,
    ) {
        self.spawn(move |inner| match work(inner) {
            Ok(opened) => reply.opened(inner.keep_open(opened), kind_of_open(inner)),
            Err(e) => reply.error(answer(e)),
        });
    }

    pub(super) fn close(&self, handle: FileHandle, reply: ReplyEmpty) {
        self.0.close(handle);
        reply.ok();
    }
}
