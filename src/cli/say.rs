//! Results on standard output, a question there, and what went wrong on standard error.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use crate::log;

/// How long the end waits for log files, and for standard error.
pub(super) const LAST_LINES_LIMIT: Duration = Duration::from_secs(5);

/// So many names of a list are said where there may be many.
pub(super) const SHOWN_NAMES: usize = 3;

/// Prints to standard output. A reader that is gone changes nothing about what was done, nor about the exit code.
pub(super) fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says on standard error what kept the program from its work, behind all that was logged.
pub(super) fn complain(text: &str) {
    log::flush(LAST_LINES_LIMIT);
    let _ = writeln!(io::stderr(), "Error: {text}");
}

/// Asks on standard output. No answer is no.
pub(super) fn agreed() -> bool {
    tell("  Continue? [y/N] ");
    let mut answer = String::new();
    // On a terminal the answer ended the line; a closed input did not.
    if !matches!(io::stdin().lock().read_line(&mut answer), Ok(1..)) {
        tell("\n");
    }
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
