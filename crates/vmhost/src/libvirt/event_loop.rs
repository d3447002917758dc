//! The thread that serves libvirt's event loop.
//!
//! Keepalive needs it: without a loop a client cannot notice that the daemon hangs, and a call waits for ever.

use std::sync::Once;

static START: Once = Once::new();

/// Starts the loop once per process. Must run before the first connection is opened
/// (virEventRegisterDefaultImpl: "must be called before using any other function").
pub(super) fn start() {
    START.call_once(|| {
        // Errors travel as values; libvirt's default is to print each of them on stderr as well.
        virt::error::clear_error_callback();
        if virt::event::event_register_default_impl().is_err() {
            return;
        }
        let serve = || {
            loop {
                if virt::event::event_run_default_impl().is_err() {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        };
        // Without the thread keepalive is off and everything else works.
        let _ = std::thread::Builder::new().name("libvirt-events".into()).spawn(serve);
    });
}
