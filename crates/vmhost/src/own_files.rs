//! Open files of a thread's own.
//!
//! Here because a call that can give a thread another table of files is `unsafe`, and `vmprogram`, whose thread it is for,
//! has no `unsafe`.
#![expect(unsafe_code, reason = "a file of one table is named by a number that means nothing in another")]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a table of open files of its own, with those that are open now. To be called before the process
/// has opened any: what the thread has stays open in it when others close theirs, with its locks. Where the kernel refuses,
/// files stay shared.
///
/// What the thread opens later must reach no other thread but over a socket, and the other way round.
pub fn own_files() {
    // SAFETY: no file is handed between this thread and others by its number: `vmprogram::start` tells its thread to make
    // pipes, which that opens itself, and sends them back over a socket that both had before.
    let _ = unsafe { unshare_unsafe(UnshareFlags::FILES) };
}
