//! Results on standard output, and what went wrong on standard error. A reader that is gone changes nothing about what was done.

use std::io::{self, Write};

/// Prints to standard output.
pub(super) fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says on standard error what kept the program from its work.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "Error: {text}");
}

/// Says on standard error what deserves a look.
pub(super) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "Warning: {text}");
}
