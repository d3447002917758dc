//! The command line.
//!
//! Lives here: its options, of which help, man page and completions are made (`command`), the words that a person typed (`read`),
//! which of them go together (`rules`), and what they ask for (`asked`).

mod asked;
mod command;
mod read;
mod rules;
#[cfg(test)]
mod tests;

pub(super) use asked::{Arguments, Asked, Mode, Scope, UsageError};
pub use command::command;
pub(super) use command::help;
pub(super) use read::parse;
pub(super) use rules::{ONE_VM, prune_target};
