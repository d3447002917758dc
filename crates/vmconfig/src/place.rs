//! Where a setting or a mistake stands: a position in a file, the environment, or the built-in default.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A position in a configuration file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was opened.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Where the value of a key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written in a configuration file.
    File(Place),
    /// Taken from the environment, because no file sets the key.
    Environment,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(place) => place.fmt(f),
            Self::Environment => f.write_str("environment"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Columns are counted no further, so that one endless line does not take for ever.
const MAX_COLUMN_BYTES: usize = 4096;

/// Finds lines and columns of byte positions of one text.
pub(super) struct Positions {
    file: Arc<Path>,
    line_starts: Vec<usize>,
}

impl Positions {
    pub(super) fn new(file: &Path, text: &[u8]) -> Self {
        let after_breaks = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Self { file: Arc::from(file), line_starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The place of byte `at` of `text`, which must be the text given to `new`.
    pub(super) fn place(&self, text: &[u8], at: usize) -> Place {
        let at = at.min(text.len());
        let line = self.line_starts.partition_point(|start| *start <= at).max(1);
        let start = self.line_starts[line - 1];
        let before = &text[start..at.min(start + MAX_COLUMN_BYTES)];
        let characters = before.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place { file: Arc::clone(&self.file), line: number(line), column: number(characters + 1) }
    }
}
