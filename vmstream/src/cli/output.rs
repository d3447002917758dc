//! Where results, warnings and errors are written, and what is done when that fails.
//!
//! A result that nobody got is not success; a reader that has seen enough (`| head`) is no error.

use super::exit::Exit;
use std::io::Write;

/// Prints a whole result.
pub(super) fn say(text: &str) -> Exit {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            tell(&format!("error: Cannot write the result: {error}\n"));
            Exit::CannotTell
        }
        _ => Exit::Good,
    }
}

/// Prints a warning. Standard error may be closed or full: that is no reason to stop.
pub(super) fn warn(text: impl std::fmt::Display) {
    tell(&format!("warning: {text}\n"));
}

/// Writes to standard error, if that can be done.
pub(super) fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
