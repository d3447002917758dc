//! What a person types and sees: arguments, progress, tables, exit codes.

mod arguments;
mod exit;
mod help;
mod opened;
mod plan;
mod program;
mod progress;
mod prune;
mod prune_list;
mod record;
mod replicate;
mod run;
mod session_box;
mod summary;

pub use program::main;
