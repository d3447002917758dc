//! Raw declarations of the part of libnbd that vmbackup uses.
//!
//! Lives here: functions, callback structs and constants of `libnbd.h`, written by hand, nothing else.
//! Must not live here: any behaviour; the safe wrapper is vmbackup's module `nbd`.
//! `tests/header.rs` reads this file and has the C compiler compare every item with the installed header,
//! so keep one item's declaration in plain words it can read: `pub const`, `pub struct`, `pub fn`.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::marker::{PhantomData, PhantomPinned};

/// One connection, opaque. Not `Send`, `Sync` or `Unpin` by itself: the wrapper states what holds.
#[repr(C)]
pub struct nbd_handle {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Called once per meta context of a block status reply; passed by value.
#[repr(C)]
pub struct nbd_extent_callback {
    /// `entries` holds `nr_entries` words: length, flags, length, flags and so on.
    pub callback: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            metacontext: *const c_char,
            offset: u64,
            entries: *mut u32,
            nr_entries: usize,
            error: *mut c_int,
        ) -> c_int,
    >,
    /// Handed to both functions.
    pub user_data: *mut c_void,
    /// Called once when libnbd needs `user_data` no more, also when the call that took it failed.
    pub free: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

/// Called when a command completes; passed by value, all null for none.
#[repr(C)]
pub struct nbd_completion_callback {
    /// Returning 1 retires the command at once.
    pub callback: Option<unsafe extern "C" fn(user_data: *mut c_void, error: *mut c_int) -> c_int>,
    /// Handed to both functions.
    pub user_data: *mut c_void,
    /// Called once when libnbd needs `user_data` no more, also when the call that took it failed.
    pub free: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

/// Asks `nbd_get_block_size` for the largest request.
pub const LIBNBD_SIZE_MAXIMUM: c_int = 2;
/// Bit of `nbd_aio_get_direction`: libnbd wants to read the socket.
pub const LIBNBD_AIO_DIRECTION_READ: c_uint = 1;
/// Bit of `nbd_aio_get_direction`: libnbd wants to write the socket.
pub const LIBNBD_AIO_DIRECTION_WRITE: c_uint = 2;
/// Bit of `nbd_set_strict_mode`: flags that libnbd does not know for a command.
pub const LIBNBD_STRICT_FLAGS: u32 = 2;
/// A read is answered in one piece, or with one error.
pub const LIBNBD_CMD_FLAG_DF: u32 = 4;
/// Flag of `base:allocation`: nothing is allocated here.
pub const LIBNBD_STATE_HOLE: u32 = 1;
/// Flag of `base:allocation`: this reads as zeros.
pub const LIBNBD_STATE_ZERO: u32 = 2;
/// The meta context that tells holes and zeros.
pub const LIBNBD_CONTEXT_BASE_ALLOCATION: &CStr = c"base:allocation";

unsafe extern "C" {
    /// Null when out of memory.
    pub fn nbd_create() -> *mut nbd_handle;
    /// Frees the handle, its commands and their callbacks' data. Waits for nothing.
    pub fn nbd_close(h: *mut nbd_handle);
    /// The calling thread's last error text, or null. Valid until the thread's next libnbd call.
    pub fn nbd_get_error() -> *const c_char;
    /// The calling thread's last errno, 0 when there was none.
    pub fn nbd_get_errno() -> c_int;

    /// Before connecting.
    pub fn nbd_set_export_name(h: *mut nbd_handle, export_name: *const c_char) -> c_int;
    /// Before connecting.
    pub fn nbd_add_meta_context(h: *mut nbd_handle, name: *const c_char) -> c_int;
    /// False leaves read buffers as they are until the reply fills them.
    pub fn nbd_set_pread_initialize(h: *mut nbd_handle, request: bool) -> c_int;
    /// Starts to connect.
    pub fn nbd_aio_connect_unix(h: *mut nbd_handle, unixsocket: *const c_char) -> c_int;

    /// 1 while connecting or in the handshake.
    pub fn nbd_aio_is_connecting(h: *mut nbd_handle) -> c_int;
    /// 1 after an orderly end.
    pub fn nbd_aio_is_closed(h: *mut nbd_handle) -> c_int;
    /// 1 after an error that ended the connection.
    pub fn nbd_aio_is_dead(h: *mut nbd_handle) -> c_int;
    /// Waits at most `timeout` ms for one event: 1 it came, 0 it did not, -1 error.
    pub fn nbd_poll(h: *mut nbd_handle, timeout: c_int) -> c_int;
    /// The socket, -1 when there is none.
    pub fn nbd_aio_get_fd(h: *mut nbd_handle) -> c_int;
    /// What to wait for on the socket.
    pub fn nbd_aio_get_direction(h: *mut nbd_handle) -> c_uint;

    /// Bytes of the export.
    pub fn nbd_get_size(h: *mut nbd_handle) -> i64;
    /// 0 when the server did not say.
    pub fn nbd_get_block_size(h: *mut nbd_handle, size_type: c_int) -> i64;
    /// 1 when writing is refused.
    pub fn nbd_is_read_only(h: *mut nbd_handle) -> c_int;
    /// 1 when several connections see the same data.
    pub fn nbd_can_multi_conn(h: *mut nbd_handle) -> c_int;
    /// 1 when the server knows `LIBNBD_CMD_FLAG_DF`.
    pub fn nbd_can_df(h: *mut nbd_handle) -> c_int;
    /// What libnbd itself refuses; bits of `LIBNBD_STRICT_…`.
    pub fn nbd_get_strict_mode(h: *mut nbd_handle) -> u32;
    /// Sets what libnbd itself refuses.
    pub fn nbd_set_strict_mode(h: *mut nbd_handle, flags: u32) -> c_int;
    /// 1 when the context was negotiated.
    pub fn nbd_can_meta_context(h: *mut nbd_handle, metacontext: *const c_char) -> c_int;
    /// 1 when the server answers with structured replies.
    pub fn nbd_get_structured_replies_negotiated(h: *mut nbd_handle) -> c_int;

    /// Starts a read into `buf`, which must live until the command is done or the handle closed.
    pub fn nbd_aio_pread(
        h: *mut nbd_handle,
        buf: *mut c_void,
        count: usize,
        offset: u64,
        completion_callback: nbd_completion_callback,
        flags: u32,
    ) -> i64;
    /// Starts to ask for the extents of a range.
    pub fn nbd_aio_block_status(
        h: *mut nbd_handle,
        count: u64,
        offset: u64,
        extent_callback: nbd_extent_callback,
        completion_callback: nbd_completion_callback,
        flags: u32,
    ) -> i64;
    /// 1 done well and retired, 0 not done yet, -1 failed and retired.
    pub fn nbd_aio_command_completed(h: *mut nbd_handle, cookie: u64) -> c_int;
    /// The first command that is done and not retired, 0 for none, -1 when nothing is in flight.
    pub fn nbd_aio_peek_command_completed(h: *mut nbd_handle) -> i64;
    /// Queues the goodbye. No command may follow.
    pub fn nbd_aio_disconnect(h: *mut nbd_handle, flags: u32) -> c_int;
}
