//! Results on standard output, and what went wrong on standard error. A reader that is gone changes nothing about what was done.

use std::io::{self, Write};
use std::sync::LazyLock;

use vmstream::terminal::Screen;

/// Prints to standard output.
pub(super) fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints to standard error, above what is drawn there.
pub(super) fn tell_beside(text: &str) {
    screen().print(text);
}

/// What standard error shows.
pub(super) fn screen() -> Screen {
    static SCREEN: LazyLock<Screen> = LazyLock::new(|| Screen::new(io::stderr()));
    SCREEN.clone()
}

/// Says on standard error what kept the program from its work.
pub(super) fn complain(text: &str) {
    tell_beside(&format!("Error: {text}\n"));
}

/// Says on standard error what deserves a look.
pub(super) fn warn(text: &str) {
    tell_beside(&format!("Warning: {text}\n"));
}
