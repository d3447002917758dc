//! A read buffer that is lent to libnbd: nobody may free or touch it until libnbd has written into it.
#![expect(unsafe_code, reason = "takes a vector apart and together again")]

use std::ffi::c_void;
use std::mem::ManuallyDrop;

/// A vector taken apart, so that no Rust reference to its bytes exists while C holds the pointer.
/// Its memory stays where it is when this value moves.
#[derive(Debug)]
pub(super) struct LentBuf {
    ptr: *mut u8,
    len: usize,
    capacity: usize,
}

// SAFETY: it owns plain bytes, as the `Vec<u8>` it came from did.
unsafe impl Send for LentBuf {}

impl LentBuf {
    pub(super) fn new(buf: Vec<u8>) -> Self {
        let mut buf = ManuallyDrop::new(buf);
        Self { ptr: buf.as_mut_ptr(), len: buf.len(), capacity: buf.capacity() }
    }

    pub(super) fn as_c(&self) -> *mut c_void {
        self.ptr.cast()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the bytes back. Only the owner knows that C is done with them, see [`Handle`](super::handle::Handle).
    pub(super) fn take_back(self) -> Vec<u8> {
        ManuallyDrop::new(self).rebuild()
    }

    fn rebuild(&mut self) -> Vec<u8> {
        // SAFETY: the parts are those of one vector, taken apart in `new`; every byte was and stays
        // initialised. Called once: by `take_back`, which forgets `self`, or by `drop`.
        unsafe { Vec::from_raw_parts(self.ptr, self.len, self.capacity) }
    }
}

impl Drop for LentBuf {
    fn drop(&mut self) {
        drop(self.rebuild());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_same_vector_back() {
        let mut buf = Vec::with_capacity(100);
        buf.extend_from_slice(b"content");
        let at = buf.as_ptr();
        let back = LentBuf::new(buf).take_back();
        assert_eq!((back.as_slice(), back.as_ptr(), back.capacity()), (b"content".as_slice(), at, 100));
    }
}
