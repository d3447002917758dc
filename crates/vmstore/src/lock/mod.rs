//! Who works here: PID files as the Bash programs read and write them, and a kernel lock on the same file.
//!
//! The Bash programs look whether the file names a live process of a fitting name, and write their own number if not.
//! Between the two anything may happen, so ours take a `flock` on the file first: among ours the kernel decides, it
//! gives the lock back however a process ends, and a number left by a dead process is worth nothing. A Bash
//! program that has its number in the file holds no `flock`, and is honoured for as long as it lives. A process that began
//! after the file was written has only got the number of a dead one.

mod error;
mod holder;
mod pid_file;
mod session;
#[cfg(test)]
mod tests;
mod vm;

pub use error::LockError;
pub use session::SessionLock;
pub use vm::VmLock;
