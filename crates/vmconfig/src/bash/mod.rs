//! Reads the assignments of a Bash file without running a shell.
//!
//! Lives here: words with their quotes and expansions, assignments in all their spellings, the variables they
//! leave behind. What is accepted means what Bash would make of it; what would need a shell is a [`Construct`].
//! Must not live here: which keys exist and what their values may be (`keys`, `value`).
//!
//! Two things differ from Bash on purpose: an unquoted pattern in a list stays a pattern (Bash would look for
//! matching files), and blanks around `=` are read as an assignment, with a warning.

mod assign;
mod construct;
mod cursor;
mod statement;
mod variables;
mod word;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;

pub use construct::Construct;
pub(super) use variables::{Element, Shape, Variable, Variables};

use std::path::Path;

use super::error::ConfigError;

/// Reads one file's bytes into `variables`, on top of what earlier files left there.
///
/// A byte order mark and CRLF line ends are taken off first.
pub(super) fn read(file: &Path, bytes: &[u8], variables: &mut Variables<'_>) -> Result<(), ConfigError> {
    let text = normalised(bytes);
    statement::Reader::new(file, &text, variables).run()
}

fn normalised(bytes: &[u8]) -> Vec<u8> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut text = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            text.push(byte);
        }
    }
    text
}
