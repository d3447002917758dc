//! What a person types and sees: arguments, progress, tables, exit codes.

mod arguments;
mod bars;
mod call;
mod check;
mod context;
mod doors;
mod failed;
mod help;
mod host;
mod init;
mod migrate;
mod opened;
mod plan;
mod program;
mod progress;
mod progress_lines;
mod prune;
mod prune_answer;
mod prune_list;
mod record;
mod replicate;
mod replication;
mod run;
mod say;
mod session_record;
mod status;

pub use arguments::command;
pub use program::main;
