//! NBD client: reads and block status of one export, over a Unix socket, bounded in time.
//!
//! Lives here: connections, several reads in flight, raw extents of each meta context.
//! Must not live here: what extents mean together (`engine`), starting a server, TLS, TCP, writing.
//!
//! How it stays sound: only `handle.rs` and the two small types it lends to C (`lent.rs`, `answer.rs`) hold
//! `unsafe`. Reads need no callback: libnbd tells what is done when asked, and only at that moment
//! does it check that a reply filled the whole buffer. Block status needs one callback, which copies the
//! reply and does nothing else; the caller's code runs after libnbd has returned.

mod answer;
mod connection;
mod deadline;
mod error;
mod export;
mod handle;
mod lent;
mod read;
mod status;

pub use answer::StatusExtent;
pub use connection::{Connection, HANDSHAKE_LIMIT};
pub use error::{Cause, NbdError, ReplyFlaw, Waiting};
pub use export::Export;
pub use read::Completed;

/// The meta context that tells holes and zeros; its flags are [`HOLE`] and [`ZERO`].
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Nothing is allocated; says nothing about the content.
pub const HOLE: u32 = libnbd_sys::LIBNBD_STATE_HOLE;
/// Reads as zeros. The only flag that allows not to read.
pub const ZERO: u32 = libnbd_sys::LIBNBD_STATE_ZERO;
/// Flag of a `qemu:dirty-bitmap:NAME` context: changed since the bitmap began.
pub const DIRTY: u32 = 1;
/// The largest request QEMU takes, and ours where a server names no limit or a larger one.
pub const MAX_REQUEST: u32 = 32 << 20;
