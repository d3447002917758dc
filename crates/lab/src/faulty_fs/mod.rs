//! A file system that does what is asked of it, but for the faults a test orders: errors, calls that hang, links or flags
//! of rename that it does not know.
//!
//! It passes every call through to a folder beneath, over FUSE, served by threads of the test. Nothing is cached by the
//! kernel, so a fault meets each call. Needs /dev/fuse, no program of FUSE's.

mod beneath;
mod faults;
mod orders;
mod replies;
mod serving;

pub use faults::Op;
pub use orders::{FaultyFileSystem, Hang};
