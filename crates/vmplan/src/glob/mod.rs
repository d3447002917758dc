//! Bash patterns for names: what `[[ name == pattern ]]` says, extglob included, without a shell.
//!
//! Lives here: the pattern as a tree, and whether a whole name matches it.
//! Must not live here: which names are asked about (`rotation` for VMs), reading of files (`config`).

mod parse;
mod pattern;
mod set;
#[cfg(test)]
mod tests;
mod tree;

pub use pattern::Pattern;
