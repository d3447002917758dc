//! Files that are written and that nobody reads soon: the page cache lets go of them, so that they push nothing out of
//! memory that guests need. Advice only: a file system that ignores it does no harm.

use std::fs::File;
use std::ops::Range;

/// After so many bytes of a file that grows, the page cache is told to let go of it.
const FLUSH_LEN: u64 = 64 << 20;

/// Has the kernel begin to write out what it holds of a file, and drop what is written.
pub fn let_go(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// The same, now and then. `written` are the bytes written before the last write, and after it.
pub fn let_go_in_steps(file: &File, written: Range<u64>) {
    if written.start / FLUSH_LEN != written.end / FLUSH_LEN {
        let_go(file);
    }
}
