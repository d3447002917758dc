//! A position in the bytes of a file, and the few ways to move it.

use std::path::Path;

use super::construct::Construct;
use crate::error::ConfigError;
use crate::place::{Place, Positions};

/// Walks over the text of one file.
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    positions: Positions,
    /// The next byte to read.
    pub(super) at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(file: &Path, text: &'t [u8]) -> Self {
        Self { text, positions: Positions::new(file, text), at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.peek_ahead(0)
    }

    pub(super) fn peek_ahead(&self, bytes: usize) -> Option<u8> {
        self.text.get(self.at + bytes).copied()
    }

    pub(super) fn starts_with(&self, prefix: &[u8]) -> bool {
        self.text[self.at..].starts_with(prefix)
    }

    /// Goes past `prefix` if it comes next.
    pub(super) fn take(&mut self, prefix: &[u8]) -> bool {
        let found = self.starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    /// Goes past the bytes that satisfy `wanted` and returns them.
    pub(super) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'t [u8] {
        let rest = &self.text[self.at..];
        let len = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Goes past blanks and continued line ends, staying in the same statement.
    pub(super) fn skip_blanks(&mut self) {
        loop {
            self.take_while(|byte| byte == b' ' || byte == b'\t');
            if !self.take(b"\\\n") {
                return;
            }
        }
    }

    /// Goes past blanks, line ends and comments.
    pub(super) fn skip_lines(&mut self) {
        loop {
            self.skip_blanks();
            self.skip_comment();
            if !self.take(b"\n") {
                return;
            }
        }
    }

    /// Goes to the end of the line if a comment begins here.
    pub(super) fn skip_comment(&mut self) {
        if self.peek() == Some(b'#') {
            self.take_while(|byte| byte != b'\n');
        }
    }

    /// Goes past continued line ends, which Bash removes even inside a name.
    pub(super) fn skip_continuations(&mut self) {
        while self.take(b"\\\n") {}
    }

    /// Reads a variable name; empty if none begins here.
    pub(super) fn take_name(&mut self) -> String {
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return String::new();
        }
        let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        String::from_utf8_lossy(name).into_owned()
    }

    /// Reads the name of an expansion, which may go on after a continued line end.
    pub(super) fn take_expanded_name(&mut self) -> String {
        self.skip_continuations();
        let mut name = self.take_name();
        while !name.is_empty() && self.starts_with(b"\\\n") {
            self.skip_continuations();
            let more = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            name.push_str(&String::from_utf8_lossy(more));
        }
        name
    }

    pub(super) fn place(&self, at: usize) -> Place {
        self.positions.place(self.text, at)
    }

    pub(super) fn refuse(&self, at: usize, construct: Construct) -> ConfigError {
        ConfigError::Bash { at: self.place(at), construct }
    }
}

/// Whether a byte ends an unquoted word.
pub(super) fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
}
