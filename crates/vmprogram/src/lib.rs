//! Other programs: how they are started, bounded in time, output and memory, and left behind when they hang.
//!
//! Lives here: the one way in which vmbackup runs another program, and looks at files on storage that may be dead
//! ([`look`], [`writable_directory`], [`rooms`], [`writers`]), or touches them there ([`try_writing`], [`remove`]).
//! Must not live here: what those programs are told (`vmstore` and the engine say that), libvirt.
//! Layer: above `vmstream`, below `vmstore` and `vmhost`. A crate of its own because both of these run programs, and
//! `vmstore` must not get libvirt with them.
//!
//! A program that waits for storage that is dead sleeps in the kernel, and no signal ends it. Nobody here waits for such
//! a one: it is killed, given up, and collected whenever it ends. It holds nothing of ours but pipes. The same look at
//! the same file from a thread of ours would keep this process, with all its locks, from ending.
#![forbid(unsafe_code)]

mod answer;
mod error;
mod itself;
mod look;
mod pipes;
mod program;
mod request;
mod room;
mod running;
mod start;
mod touch;
mod writers;

pub use answer::answer;
pub use error::{NEVER, ProgramError, Stopped};
pub use look::{Look, look, writable_directory};
pub use program::Program;
pub use room::{Room, Space, rooms};
pub use running::{Output, Running};
pub use start::{begin, start, thread_id};
pub use touch::{remove, try_writing};
pub use writers::{Used, Writers, Written, writers};
