//! Words that people try, and the command that does what they mean.

use clap::error::{ContextKind, ContextValue, ErrorKind};

const WORDS: [(&str, &[&str]); 6] = [
    ("info", &["list", "ls", "show", "status", "points"]),
    ("verify", &["check", "test", "validate", "fsck", "scrub", "prove"]),
    ("extract", &["restore", "recover", "dump", "export", "get", "cat"]),
    ("compare", &["diff", "cmp"]),
    ("convert", &["squash", "merge", "recompress", "consolidate"]),
    ("doctor", &["diagnose", "audit"]),
];

/// A line that helps further, for a command that does not exist.
pub(super) fn of(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let (command, _) = WORDS.iter().find(|(_, words)| words.contains(&word.as_str()))?;
    Some(format!("\nvmstream {command} does that: see vmstream {command} --help\n"))
}
