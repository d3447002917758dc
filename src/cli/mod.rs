//! What a person types and sees: arguments, progress, tables, exit codes.

mod arguments;
mod check;
mod drawing;
mod exit;
mod help;
mod host;
mod init;
mod migrate;
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
mod status;
mod summary;
mod table;

pub use program::main;
