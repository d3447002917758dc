//! One libnbd handle: each C function we use as a safe method.
//!
//! No rule of ours lives here; time limits, names of exports and checks of replies are above.
#![expect(unsafe_code, reason = "the calls into libnbd")]

use std::collections::HashMap;
use std::ffi::{CStr, c_int};
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::Weak;
use std::time::Duration;

use libnbd_sys as sys;

use super::answer::{SharedAnswer, extent_callback};
use super::error::Cause;
use super::lent::LentBuf;

/// Names a command of one handle until it is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cookie(u64);

/// A command that has ended and is retired.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) cookie: Cookie,
    /// The read buffer; `None` for a block status nobody waits for any more.
    pub(super) buf: Option<Vec<u8>>,
    pub(super) result: Result<(), Cause>,
}

/// A libnbd handle with the buffers lent to it. Closed on drop, in no time, whatever is in flight.
#[derive(Debug)]
pub(super) struct Handle {
    raw: NonNull<sys::nbd_handle>,
    /// Freed after `nbd_close` or once a read is done, never while libnbd may write into them.
    lent: HashMap<Cookie, LentBuf>,
}

// SAFETY: libnbd locks the handle inside each call and ties it to no thread (libnbd(3), threads). Its last error
// is thread local, so `Cause::last` reads it on the calling thread, right after the call. What we lend is `Send`.
unsafe impl Send for Handle {}
// Not `Sync`: one owner for each connection; parallel reads use several.

impl Cause {
    /// The calling thread's last libnbd error.
    fn last() -> Self {
        // SAFETY: takes no argument.
        let errno = unsafe { sys::nbd_get_errno() };
        // SAFETY: takes no argument; the text is copied before the thread's next libnbd call.
        let text = unsafe { sys::nbd_get_error() };
        let message = if text.is_null() {
            "libnbd gave no reason".to_owned()
        } else {
            // SAFETY: not null, so a C string of libnbd, valid until the thread's next libnbd call.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        Self { errno, message }
    }
}

/// -1 is libnbd's failure; other negative values do not occur and count as it.
fn check(ret: impl Into<i64>) -> Result<u64, Cause> {
    u64::try_from(ret.into()).map_err(|_| Cause::last())
}

fn no_completion() -> sys::nbd_completion_callback {
    sys::nbd_completion_callback { callback: None, user_data: ptr::null_mut(), free: None }
}

/// Before and during connecting.
impl Handle {
    pub(super) fn create() -> Result<Self, Cause> {
        // SAFETY: takes no argument.
        let raw = NonNull::new(unsafe { sys::nbd_create() }).ok_or_else(Cause::last)?;
        let handle = Self { raw, lent: HashMap::new() };
        // Our buffers are always initialised, and a reply that leaves a part of one unfilled fails when
        // the read is retired, so clearing each buffer first would only cost memory bandwidth.
        // SAFETY: `raw` is open.
        check(unsafe { sys::nbd_set_pread_initialize(handle.raw.as_ptr(), false) })?;
        Ok(handle)
    }

    pub(super) fn set_export_name(&mut self, name: &CStr) -> Result<(), Cause> {
        // SAFETY: `raw` is open; libnbd copies the string.
        check(unsafe { sys::nbd_set_export_name(self.raw.as_ptr(), name.as_ptr()) }).map(drop)
    }

    pub(super) fn add_meta_context(&mut self, name: &CStr) -> Result<(), Cause> {
        // SAFETY: `raw` is open; libnbd copies the string.
        check(unsafe { sys::nbd_add_meta_context(self.raw.as_ptr(), name.as_ptr()) }).map(drop)
    }

    pub(super) fn connect_unix(&mut self, socket: &CStr) -> Result<(), Cause> {
        // SAFETY: `raw` is open; libnbd copies the string.
        check(unsafe { sys::nbd_aio_connect_unix(self.raw.as_ptr(), socket.as_ptr()) }).map(drop)
    }
}

impl Handle {
    fn ask(&self, function: unsafe extern "C" fn(*mut sys::nbd_handle) -> c_int) -> Result<bool, Cause> {
        // SAFETY: `raw` is open; every function given takes only the handle and changes nothing.
        check(unsafe { function(self.raw.as_ptr()) }).map(|answer| answer != 0)
    }

    pub(super) fn is_connecting(&self) -> Result<bool, Cause> {
        self.ask(sys::nbd_aio_is_connecting)
    }

    /// Whether the connection has ended, in order or not.
    pub(super) fn has_ended(&self) -> bool {
        let ended = |function| self.ask(function).unwrap_or(true);
        ended(sys::nbd_aio_is_closed) || ended(sys::nbd_aio_is_dead)
    }

    pub(super) fn is_read_only(&self) -> Result<bool, Cause> {
        self.ask(sys::nbd_is_read_only)
    }

    pub(super) fn can_multi_conn(&self) -> Result<bool, Cause> {
        self.ask(sys::nbd_can_multi_conn)
    }

    pub(super) fn can_df(&self) -> Result<bool, Cause> {
        self.ask(sys::nbd_can_df)
    }

    /// Lets reads have the flag for one piece: libnbd knows it for `nbd_aio_pread_structured` alone, and sends it all the same.
    pub(super) fn allow_whole_reads(&mut self) -> Result<(), Cause> {
        // SAFETY: `raw` is open; the call returns a number and changes nothing.
        let strict = unsafe { sys::nbd_get_strict_mode(self.raw.as_ptr()) };
        // SAFETY: `raw` is open; the call takes bits and keeps them.
        check(unsafe { sys::nbd_set_strict_mode(self.raw.as_ptr(), strict & !sys::LIBNBD_STRICT_FLAGS) })
            .map(drop)
    }

    pub(super) fn has_structured_replies(&self) -> Result<bool, Cause> {
        self.ask(sys::nbd_get_structured_replies_negotiated)
    }

    pub(super) fn has_meta_context(&self, name: &CStr) -> Result<bool, Cause> {
        // SAFETY: `raw` is open; the string lives during the call.
        check(unsafe { sys::nbd_can_meta_context(self.raw.as_ptr(), name.as_ptr()) })
            .map(|answer| answer != 0)
    }

    pub(super) fn size(&self) -> Result<u64, Cause> {
        // SAFETY: `raw` is open.
        check(unsafe { sys::nbd_get_size(self.raw.as_ptr()) })
    }

    /// 0 when the server did not say.
    pub(super) fn max_block_size(&self) -> Result<u64, Cause> {
        // SAFETY: `raw` is open; the constant is one libnbd knows.
        check(unsafe { sys::nbd_get_block_size(self.raw.as_ptr(), sys::LIBNBD_SIZE_MAXIMUM) })
    }

    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, Cause> {
        // SAFETY: `raw` is open.
        let fd = unsafe { sys::nbd_aio_get_fd(self.raw.as_ptr()) };
        check(fd)?;
        // SAFETY: a valid socket, as it is not negative. libnbd closes it only in calls that need `&mut self` or in
        // `drop`, and the borrow excludes both.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Whether libnbd waits to write the socket, and whether it waits to read it.
    pub(super) fn wants(&self) -> (bool, bool) {
        // SAFETY: `raw` is open.
        let bits = unsafe { sys::nbd_aio_get_direction(self.raw.as_ptr()) };
        (bits & sys::LIBNBD_AIO_DIRECTION_WRITE != 0, bits & sys::LIBNBD_AIO_DIRECTION_READ != 0)
    }
}

impl Handle {
    /// Handles one event of the socket, or says after the time that none came.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<bool, Cause> {
        // Rounded up: a wait that ends early would spin through the last millisecond.
        let ms = timeout.as_nanos().div_ceil(1_000_000);
        let ms = c_int::try_from(ms).unwrap_or(c_int::MAX);
        // SAFETY: `raw` is open. Buffers and callback data of commands in flight are alive: see `start_read`, `ask_status`.
        check(unsafe { sys::nbd_poll(self.raw.as_ptr(), ms) }).map(|events| events != 0)
    }

    /// Asks for `buf.len()` bytes. On failure the buffer is freed.
    ///
    /// `whole`: it is answered in one piece, which the server must know ([`Handle::can_df`]).
    pub(super) fn start_read(&mut self, buf: Vec<u8>, offset: u64, whole: bool) -> Result<Cookie, Cause> {
        let lent = LentBuf::new(buf);
        let flags = if whole { sys::LIBNBD_CMD_FLAG_DF } else { 0 };
        // SAFETY: `raw` is open. `lent` is `len` writable bytes that nobody else refers to. It stays in `self.lent` until
        // libnbd has the command among its completed ones, which it never writes for again (`next_done`), or
        // until after `nbd_close` (`drop`). If the call fails no command was queued.
        let cookie = check(unsafe {
            sys::nbd_aio_pread(self.raw.as_ptr(), lent.as_c(), lent.len(), offset, no_completion(), flags)
        })?;
        self.lent.insert(Cookie(cookie), lent);
        Ok(Cookie(cookie))
    }

    /// Asks for the extents of a range; they arrive in `answer` if it still exists then.
    pub(super) fn ask_status(
        &mut self,
        offset: u64,
        len: u32,
        answer: Weak<SharedAnswer>,
    ) -> Result<Cookie, Cause> {
        // SAFETY: `raw` is open. The callback's data is a reference count that lives until libnbd calls `free`,
        // which it does also when this call fails.
        let cookie = check(unsafe {
            sys::nbd_aio_block_status(
                self.raw.as_ptr(),
                u64::from(len),
                offset,
                extent_callback(answer),
                no_completion(),
                0,
            )
        })?;
        Ok(Cookie(cookie))
    }

    /// Retires a block status command if it is done; `None` while it is not.
    pub(super) fn status_done(&mut self, cookie: Cookie) -> Option<Result<(), Cause>> {
        debug_assert!(!self.lent.contains_key(&cookie));
        // SAFETY: `raw` is open.
        match check(unsafe { sys::nbd_aio_command_completed(self.raw.as_ptr(), cookie.0) }) {
            Ok(0) => None,
            Ok(_) => Some(Ok(())),
            Err(cause) => Some(Err(cause)),
        }
    }

    /// Retires the first command that is done, if there is one.
    pub(super) fn next_done(&mut self) -> Option<Done> {
        // SAFETY: `raw` is open.
        let cookie = check(unsafe { sys::nbd_aio_peek_command_completed(self.raw.as_ptr()) }).ok()?;
        if cookie == 0 {
            return None;
        }
        // SAFETY: `raw` is open. The command is done, so this retires it whether it failed or not.
        let result = check(unsafe { sys::nbd_aio_command_completed(self.raw.as_ptr(), cookie) }).map(drop);
        let cookie = Cookie(cookie);
        // The command is not in flight, so its buffer is ours again.
        let buf = self.lent.remove(&cookie).map(LentBuf::take_back);
        Some(Done { cookie, buf, result })
    }

    /// Queues the goodbye; no command may follow.
    pub(super) fn disconnect(&mut self) -> Result<(), Cause> {
        // SAFETY: `raw` is open.
        check(unsafe { sys::nbd_aio_disconnect(self.raw.as_ptr(), 0) }).map(drop)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `nbd_create`, belongs to this value alone and is closed once. libnbd has no
        // thread of its own: after this nobody writes into `self.lent`, which is dropped next.
        unsafe { sys::nbd_close(self.raw.as_ptr()) }
    }
}
