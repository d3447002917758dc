//! What the server answers to one block status request, as libnbd's callback hands it over.
#![expect(unsafe_code, reason = "the callback that libnbd calls")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use libnbd_sys as sys;

use super::error::ReplyFlaw;

/// Extents kept of one context; what a server sends beyond is asked for again, as after any short reply.
/// QEMU sends at most 128 Ki, libnbd takes at most 8 Mi.
const MAX_EXTENTS: usize = 1 << 20;
/// More contexts than anybody asks for in one connection.
const MAX_CONTEXTS: usize = 64;

/// One descriptor of a reply: the next `len` bytes have these flags. Their meaning is the context's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// In bytes, never 0.
    pub len: u32,
    /// Such as [`ZERO`](super::ZERO) or [`DIRTY`](super::DIRTY).
    pub flags: u32,
}

/// The replies of all contexts to one request, unchecked.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) contexts: Vec<ContextAnswer>,
}

/// One context's reply.
#[derive(Debug)]
pub(super) struct ContextAnswer {
    pub(super) context: String,
    pub(super) extents: Result<Vec<StatusExtent>, ReplyFlaw>,
}

pub(super) type SharedAnswer = Mutex<Answer>;

/// The answer, also after a panic: every state of it is a valid one.
pub(super) fn lock(answer: &SharedAnswer) -> MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answer {
    fn add(&mut self, context: String, words: &[u32]) {
        if let Some(earlier) = self.contexts.iter_mut().find(|earlier| earlier.context == context) {
            earlier.extents = Err(ReplyFlaw::Twice);
        } else if self.contexts.len() < MAX_CONTEXTS {
            self.contexts.push(ContextAnswer { context, extents: extents_of(words) });
        }
    }
}

fn extents_of(words: &[u32]) -> Result<Vec<StatusExtent>, ReplyFlaw> {
    let pairs = words.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(ReplyFlaw::Torn);
    }
    Ok(pairs.take(MAX_EXTENTS).map(|pair| StatusExtent { len: pair[0], flags: pair[1] }).collect())
}

/// The callback for one request. C holds a weak reference: an answer nobody waits for any more is not
/// kept, and the reference lives until libnbd calls `free`, however late that is.
pub(super) fn extent_callback(answer: Weak<SharedAnswer>) -> sys::nbd_extent_callback {
    sys::nbd_extent_callback {
        callback: Some(take_extents),
        user_data: answer.into_raw().cast_mut().cast(),
        free: Some(free_answer),
    }
}

unsafe extern "C" fn take_extents(
    user_data: *mut c_void,
    context: *const c_char,
    _offset: u64,
    entries: *mut u32,
    nr_entries: usize,
    error: *mut c_int,
) -> c_int {
    let taken = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `user_data` came from `Weak::into_raw` in `extent_callback` and `free_answer` has not run
        // yet (libnbd(3), callback lifetimes). `ManuallyDrop` leaves the count to `free_answer`.
        let answer = ManuallyDrop::new(unsafe { Weak::from_raw(user_data.cast::<SharedAnswer>()) });
        let Some(answer) = answer.upgrade() else { return };
        // SAFETY: libnbd passes the context's name as a C string that lives during the call.
        let context = unsafe { CStr::from_ptr(context) }.to_string_lossy().into_owned();
        let words = if nr_entries == 0 {
            &[]
        } else {
            // SAFETY: `entries` points at `nr_entries` words that live during the call and that nobody else
            // touches: libnbd holds the handle's lock.
            unsafe { std::slice::from_raw_parts(entries.cast_const(), nr_entries) }
        };
        lock(&answer).add(context, words);
    }));
    if taken.is_ok() {
        return 0;
    }
    // SAFETY: libnbd passes a pointer to its own variable.
    unsafe { *error = rustix::io::Errno::PROTO.raw_os_error() };
    -1
}

unsafe extern "C" fn free_answer(user_data: *mut c_void) {
    // SAFETY: libnbd calls this once, as the last use of `user_data`, which came from `Weak::into_raw`. Dropping
    // a `Weak` runs no code of ours.
    drop(unsafe { Weak::from_raw(user_data.cast::<SharedAnswer>()) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn call(callback: &sys::nbd_extent_callback, context: &CStr, words: &mut [u32]) -> (c_int, c_int) {
        let mut error = 0;
        let function = callback.callback.expect("set");
        // SAFETY: the arguments are what libnbd passes.
        let ret = unsafe {
            function(callback.user_data, context.as_ptr(), 0, words.as_mut_ptr(), words.len(), &raw mut error)
        };
        (ret, error)
    }

    fn free(callback: &sys::nbd_extent_callback) {
        // SAFETY: called once, last.
        unsafe { callback.free.expect("set")(callback.user_data) }
    }

    #[test]
    fn keeps_each_context_and_marks_flaws() {
        let answer = Arc::new(SharedAnswer::default());
        let callback = extent_callback(Arc::downgrade(&answer));
        assert_eq!(call(&callback, c"good", &mut [512, 3, 1024, 0]), (0, 0));
        assert_eq!(call(&callback, c"torn", &mut [512, 3, 1024]), (0, 0));
        assert_eq!(call(&callback, c"twice", &mut [1, 0]), (0, 0));
        assert_eq!(call(&callback, c"twice", &mut [1, 0]), (0, 0));
        free(&callback);
        let got: Vec<_> =
            lock(&answer).contexts.iter().map(|c| (c.context.clone(), c.extents.clone())).collect();
        let good = vec![StatusExtent { len: 512, flags: 3 }, StatusExtent { len: 1024, flags: 0 }];
        assert_eq!(
            got,
            [
                ("good".to_owned(), Ok(good)),
                ("torn".to_owned(), Err(ReplyFlaw::Torn)),
                ("twice".to_owned(), Err(ReplyFlaw::Twice)),
            ]
        );
        assert_eq!(Arc::weak_count(&answer), 0, "free gave the reference back");
    }

    #[test]
    fn an_answer_nobody_waits_for_is_dropped() {
        let answer = Arc::new(SharedAnswer::default());
        let callback = extent_callback(Arc::downgrade(&answer));
        drop(answer);
        assert_eq!(call(&callback, c"late", &mut [512, 3]), (0, 0));
        free(&callback);
    }

    #[test]
    fn a_reply_is_cut_at_the_most_extents_kept() {
        let mut words = vec![1u32; 2 * (MAX_EXTENTS + 5)];
        let answer = Arc::new(SharedAnswer::default());
        let callback = extent_callback(Arc::downgrade(&answer));
        call(&callback, c"many", &mut words);
        free(&callback);
        let answer = lock(&answer);
        assert_eq!(answer.contexts[0].extents.as_ref().map(Vec::len), Ok(MAX_EXTENTS));
    }
}
