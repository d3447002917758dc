//! Results on standard output, and a question there.

use std::io::{self, BufRead, Write};

/// So many names of a list are said where there may be many.
pub(super) const SHOWN_NAMES: usize = 3;

/// Prints to standard output. A reader that is gone changes nothing about what was done, nor about the exit code.
pub(super) fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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
