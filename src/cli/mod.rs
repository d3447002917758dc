//! What a person types and sees: arguments, progress, tables, exit codes.

mod arguments;
mod exit;
mod plan;
mod progress;
mod run;
mod summary;

pub use run::main;
