//! Whether two folders hold the same state and the same recovery keys.

use super::names::{KEYS, METADATA};
use crate::identity::private_copy::Files;

/// What stands above the part of the key file that Windows printed: it has the time in it.
pub(super) const RULE: &str = "========================================\n";

/// Whether two folders hold the same, the text about it aside.
pub(super) fn are_same(one: &Files, other: &Files) -> bool {
    let counted = |files: &Files| {
        let mut names: Vec<usize> = (0..files.len()).filter(|at| files[*at].0 != METADATA).collect();
        names.sort_by(|a, b| files[*a].0.cmp(&files[*b].0));
        names
    };
    let (ours, theirs) = (counted(one), counted(other));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(a, b)| {
            let ((name, content), (other_name, other_content)) = (&one[*a], &other[*b]);
            name == other_name && body(name, content) == body(name, other_content)
        })
}

/// What of a file counts.
fn body<'a>(name: &str, content: &'a [u8]) -> &'a [u8] {
    let rule = RULE.as_bytes();
    let at = content.windows(rule.len()).position(|part| part == rule).filter(|_| name == KEYS);
    &content[at.unwrap_or(0)..]
}
